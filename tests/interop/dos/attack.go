package dos

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// target is what an attacker knows of the server.
type target struct {
	// Client, Peer and Metrics are addresses.
	Client, Peer, Metrics string
	// Authority is the file of the CA of a server that speaks TLS.
	Authority string
	Seconds   float64
}

// attacker is a row's attack in its own process, so that it takes nothing from the honest client
// but what it takes from the server.
type attacker struct {
	target
	// ctx is done when the attack is to end.
	ctx   context.Context
	ready chan struct{}
	mutex sync.Mutex
	tally tally
}

// tally is what the attacker did and what became of it, counted by name.
type tally map[string]int64

const (
	attackVariable = "DOS_ATTACK"
	targetVariable = "DOS_TARGET"
	readySaid      = "ready"
	// meeker is how much less attackers insist on the processor than the server: they stand for
	// other machines, which would not take it away.
	meeker = 7
	// prepareMax is how long an attacker may take to be ready.
	prepareMax = 60 * time.Second
)

// note counts something that happened.
func (a *attacker) note(what string) { a.add(what, 1) }

func (a *attacker) add(what string, count int64) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.tally[what] += count
}

// begins says that all preparations are made.
func (a *attacker) begins() { close(a.ready) }

// goesOn says whether the attack is not over yet.
func (a *attacker) goesOn() bool { return a.ctx.Err() == nil }

// crowd runs so many of something at once, each again and again until the attack is over.
func (a *attacker) crowd(size int, one func(number int)) {
	var all sync.WaitGroup
	for number := range size {
		all.Go(func() {
			for a.goesOn() {
				one(number)
			}
		})
	}
	all.Wait()
}

// each runs so many of something at once, each once.
func (a *attacker) each(size int, one func(number int)) {
	var all sync.WaitGroup
	for number := range size {
		all.Go(func() { one(number) })
	}
	all.Wait()
}

// lingers waits for the end of the attack, holding what it has.
func (a *attacker) lingers() { <-a.ctx.Done() }

// fails ends the process: what was to be prepared cannot be.
func (a *attacker) fails(err error) {
	fmt.Fprintln(os.Stderr, "the attacker cannot begin:", err)
	os.Exit(1)
}

// attackIfAsked is the main function of an attacker's process.
func attackIfAsked(rows []row) {
	name := os.Getenv(attackVariable)
	if name == "" {
		return
	}
	at := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	a := &attacker{ready: make(chan struct{}), tally: tally{}}
	if err := json.Unmarshal([]byte(os.Getenv(targetVariable)), &a.target); err != nil || at < 0 {
		a.fails(fmt.Errorf("%s: %v", name, err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.ctx = ctx
	go func() {
		<-a.ready
		fmt.Println(readySaid)
		time.Sleep(time.Duration(a.Seconds * float64(time.Second)))
		cancel()
		a.report()
		// Whoever does not notice in time holds what it has until the end of its process.
		os.Exit(0)
	}()
	rows[at].attack(a)
	if a.goesOn() {
		a.lingers()
	}
	select {}
}

func (a *attacker) report() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	text, err := json.Marshal(a.tally)
	if err != nil {
		a.fails(err)
	}
	fmt.Println(string(text))
}

// attack is an attacker's process, seen from the test.
type attack struct {
	process *exec.Cmd
	lines   *bufio.Scanner
	stderr  strings.Builder
}

// startAttack runs a row's attacker and waits until it is ready.
func startAttack(t testing.TB, name string, at target) *attack {
	t.Helper()
	text, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	a := &attack{process: exec.Command(os.Args[0])}
	a.process.Env = append(os.Environ(), attackVariable+"="+name, targetVariable+"="+string(text))
	a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	a.process.Stderr = &a.stderr
	stdout, err := a.process.StdoutPipe()
	if err == nil {
		err = a.process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	// What the system call says is 20 less the priority.
	own, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, a.process.Process.Pid, 20-own+meeker)
	a.lines = bufio.NewScanner(stdout)
	late := time.AfterFunc(prepareMax, func() { _ = a.process.Process.Kill() })
	defer late.Stop()
	if !a.lines.Scan() || a.lines.Text() != readySaid {
		_ = a.process.Wait()
		t.Fatalf("%s: the attacker was not ready: %q %s", name, a.lines.Text(), &a.stderr)
	}
	return a
}

// end waits for the end of the attack, when all its connections are closed by the kernel.
func (a *attack) end(t testing.TB) tally {
	t.Helper()
	told := tally{}
	if !a.lines.Scan() {
		t.Errorf("the attacker said nothing at its end: %s", &a.stderr)
	} else if err := json.Unmarshal(a.lines.Bytes(), &told); err != nil {
		t.Errorf("the attacker said %q", a.lines.Text())
	}
	_ = a.process.Wait()
	return told
}

// processor is what the attacker had of all processors; it is over.
func (a *attack) processor() time.Duration {
	return a.process.ProcessState.UserTime() + a.process.ProcessState.SystemTime()
}

// String is the tally in the order of names.
func (t tally) String() string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, t[name])
	}
	return strings.Join(names, ", ")
}

// count sums all that begins with one of the names.
func (t tally) count(names ...string) (sum int64) {
	for what, count := range t {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(what, name) }) {
			sum += count
		}
	}
	return sum
}

// secrecy is how the attacker's connections are encrypted, if at all.
func (a *attacker) secrecy() *tls.Config {
	if a.Authority == "" {
		return nil
	}
	config, err := trusting(a.Authority)
	if err != nil {
		a.fails(err)
	}
	return config
}
