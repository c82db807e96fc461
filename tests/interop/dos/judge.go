package dos

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kvorum/interop/harness"
)

const (
	// p99Max is what the honest client's requests may take, 99 of 100.
	p99Max = 500 * time.Millisecond
	// stallMax is when it was the machine that stood still, and the row is tried again.
	stallMax = p99Max / 2
	// othersMax is how much of the machine others may have had until it is told so and tried again.
	othersMax = 0.25
	triesMax  = 3
	// aloneTime is how long the honest client is measured before the attack.
	aloneTime = 500 * time.Millisecond
	// afterMax is how long a server may take to be as before.
	afterMax = 20 * time.Second
	// descriptorsKept is what a server may have open more than before: a segment of the log.
	descriptorsKept = 8
	probeEvery      = 250 * time.Millisecond
)

// victim is a server under attack.
type victim struct {
	*harness.Server
	at      target
	secrecy *tls.Config
	metrics string
}

// newVictim starts a server of a world in a memory group of its own.
func newVictim(t testing.TB, program harness.Program, of world) *victim {
	t.Helper()
	v := &victim{metrics: harness.FreeURL(t)}
	options := harness.Options{Name: string(of), Through: newCage(t).through(),
		Args: []string{"--listen-metrics-urls=" + v.metrics}}
	if of == secret {
		own := newIdentity(t, t.TempDir())
		var err error
		if v.secrecy, err = trusting(own.authority); err != nil {
			t.Fatal(err)
		}
		v.at.Authority = own.authority
		options.ClientURL = strings.Replace(harness.FreeURL(t), "http:", "https:", 1)
		options.Args = append(options.Args, "--cert-file="+own.certificate, "--key-file="+own.key)
	}
	v.Server = harness.New(t, program, options)
	if of == secret {
		// The harness asks for health in plain text; the metrics listener answers that.
		if err := v.Spawn(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, 30*time.Second, func() string { return v.probe() })
	} else if err := v.Run(); err != nil {
		t.Fatal(err)
	}
	bare := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	v.at.Client, v.at.Peer = bare(v.Options.ClientURL), bare(v.Options.PeerURL)
	v.at.Metrics = bare(v.metrics)
	seed(t, v.Server, of)
	return v
}

// probe asks the metrics listener for health, on a connection of its own, as a kubelet does.
func (v *victim) probe() string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(v.metrics + "/health")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(text), `"health":"true"`) {
		return fmt.Sprintf("health: %s %v", text, err)
	}
	return ""
}

// probes probes until the context is done; how long the longest took, and what was refused.
func (v *victim) probes(ctx context.Context) (longest time.Duration, refused string) {
	for ctx.Err() == nil {
		begin := time.Now()
		if what := v.probe(); what != "" {
			refused = what
		}
		longest = max(longest, time.Since(begin))
		time.Sleep(time.Until(begin.Add(probeEvery)))
	}
	return longest, refused
}

// trial is what came of one attack.
type trial struct {
	row             row
	alone, attacked *service
	// after is what the honest client gets while the server recovers.
	after   *service
	probe   time.Duration
	refused string
	told    tally
	// before, peak and after, in bytes and descriptors.
	memory      [3]uint64
	descriptors [3]int
	processor   time.Duration
	// others is the part of the machine that had nothing to do with the attack.
	others float64
	// unhealthy says what is not as it was.
	unhealthy string
	died      bool
}

// try attacks once.
func (v *victim) try(t testing.TB, r row, length time.Duration) *trial {
	t.Helper()
	trial := &trial{row: r}
	client := newHonest(t, v.Options.ClientURL, v.secrecy)
	defer client.close()
	quiet, cancel := context.WithTimeout(context.Background(), aloneTime)
	trial.alone = client.serve(quiet)
	cancel()
	pid := v.Pid()
	trial.memory[0], trial.descriptors[0] = memory(pid), descriptors(pid)
	at := v.at
	at.Seconds = length.Seconds()
	looked, used := lookAt(pid), processor(pid)
	begin, all, own := time.Now(), busy(), processor(os.Getpid())
	attacker := startAttack(t, r.name, at)
	ctx, cancel := context.WithCancel(context.Background())
	var beside sync.WaitGroup
	beside.Go(func() { trial.attacked = client.serve(ctx) })
	beside.Go(func() { trial.probe, trial.refused = v.probes(ctx) })
	trial.told = attacker.end(t)
	trial.processor = max(0, processor(pid)-used)
	others := busy() - all - trial.processor - (processor(os.Getpid()) - own) - attacker.processor()
	trial.others = float64(others) / float64(time.Since(begin)) / float64(runtime.NumCPU())
	cancel()
	beside.Wait()
	looked.end()
	trial.memory[1] = looked.memory.Load()
	trial.descriptors[1] = int(looked.descriptors.Load())
	if trial.died = !v.Running(); !trial.died {
		v.recover(trial, client)
	}
	return trial
}

// recover waits until the server is as it was before, with nobody there but the honest client.
func (v *victim) recover(trial *trial, client *honest) {
	ctx, cancel := context.WithCancel(context.Background())
	var beside sync.WaitGroup
	beside.Go(func() { trial.after = client.serve(ctx) })
	defer beside.Wait()
	defer cancel()
	deadline := time.Now().Add(afterMax)
	for {
		trial.unhealthy = v.lacks(trial)
		if trial.unhealthy == "" || time.Now().After(deadline) || !v.Running() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lacks says what the server lacks to be as it was.
func (v *victim) lacks(trial *trial) string {
	trial.memory[2], trial.descriptors[2] = memory(v.Pid()), descriptors(v.Pid())
	keeps := (keepsUsual + trial.row.keeps) << 20
	if trial.memory[2] > trial.memory[0]+keeps {
		return fmt.Sprintf("%d MiB are kept", (trial.memory[2]-trial.memory[0])>>20)
	}
	if trial.descriptors[2] > trial.descriptors[0]+descriptorsKept {
		return fmt.Sprintf("%d descriptors are kept", trial.descriptors[2]-trial.descriptors[0])
	}
	return v.probe()
}

// wrong is everything that must not have happened.
func (trial *trial) wrong() (all []string) {
	if trial.died {
		return []string{"the server died"}
	}
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if p99 := trial.attacked.at(0.99); p99 > p99Max {
		wrong("the honest client's p99 is %v, at most %v", p99, p99Max)
	}
	if failures := trial.attacked.failures; len(failures) > 0 {
		wrong("%d of %d honest requests failed, the first: %s", len(failures),
			len(trial.attacked.took), failures[0])
	}
	if failures := trial.after.failures; len(failures) > 0 {
		wrong("%d honest requests failed after the attack, the first: %s", len(failures), failures[0])
	}
	if trial.refused != "" {
		wrong("a probe was refused: %s", trial.refused)
	}
	if trial.memory[1] > memoryMax {
		wrong("it took %d MiB", trial.memory[1]>>20)
	}
	peak := trial.row.peak
	if peak == 0 {
		peak = peakUsual
	}
	if grown := int64(trial.memory[1]-trial.memory[0]) >> 20; grown > int64(peak) {
		wrong("it grew by %d MiB, at most %d", grown, peak)
	}
	if trial.unhealthy != "" {
		wrong("%v after the attack: %s", afterMax, trial.unhealthy)
	}
	if what := trial.row.must(trial.told); what != "" {
		wrong("the attacker: %s", what)
	}
	return all
}

// String is the line of the table.
func (trial *trial) String() string {
	mib := func(at int) uint64 { return trial.memory[at] >> 20 }
	ended := ""
	if trial.died {
		ended = " DIED"
	}
	return fmt.Sprintf("| %s | %s | %s | %d failed | probe %s | cpu %s | MiB %d %d %d | "+
		"fds %d %d %d |%s %s",
		trial.row.name, trial.alone, trial.attacked, len(trial.attacked.failures),
		short(trial.probe), trial.processor, mib(0), mib(1), mib(2), trial.descriptors[0],
		trial.descriptors[1], trial.descriptors[2], ended, trial.told)
}

// stoodStill says whether this trial says more of the machine than of the server.
func (trial *trial) stoodStill() bool {
	return trial.others > othersMax || trial.alone.stall > stallMax ||
		trial.attacked.stall > stallMax ||
		trial.alone.at(0.99) > p99Max
}
