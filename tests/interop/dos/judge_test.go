package dos

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// judgeRows are attacks that must be noticed, whoever the server is.
var judgeRows = []row{
	{name: "nothing", world: plain, attack: idle(100, ""), must: some("connections"), seconds: 2},
	{name: "nothing is refused", world: plain, attack: idle(10, ""), must: some("refused")},
}

const eatVariable = "DOS_EAT"

// eatIfAsked takes more memory than a cage has.
func eatIfAsked() {
	if os.Getenv(eatVariable) == "" {
		return
	}
	eaten := make([]byte, 2*memoryMax)
	for at := 0; at < len(eaten); at += 4096 {
		eaten[at] = 1
	}
	os.Exit(0)
}

// TestCageHolds: what takes more than the cap is ended.
func TestCageHolds(t *testing.T) {
	in := newCage(t)
	if in.procs == "" {
		harness.Lacking(t, "a memory group needs root and cgroups")
	}
	through := append(in.through(), os.Args[0])
	process := exec.Command(through[0], through[1:]...)
	process.Env = append(os.Environ(), eatVariable+"=1")
	if text, err := process.CombinedOutput(); err == nil {
		t.Fatalf("it ate %d MiB in a cage of %d: %s", 2*memoryMax>>20, memoryMax>>20, text)
	}
}

// TestJudgeNotices: a server that stands still for a second, one that goes, and an attacker that
// was not refused.
func TestJudgeNotices(t *testing.T) {
	prey := newVictim(t, harness.UnderTest(t), plain)
	expect := func(trial *trial, words string) {
		t.Helper()
		if wrong := strings.Join(trial.wrong(), "; "); !strings.Contains(wrong, words) {
			t.Errorf("%q is not noticed: %s\n%s", words, wrong, trial)
		}
	}
	expect(prey.try(t, judgeRows[1], time.Second), "none of")

	stands := func(how syscall.Signal, after time.Duration) {
		time.AfterFunc(after, func() { _ = syscall.Kill(prey.Pid(), how) })
	}
	stands(syscall.SIGSTOP, aloneTime+time.Second)
	stands(syscall.SIGCONT, aloneTime+2*time.Second)
	expect(prey.try(t, judgeRows[0], 2*time.Second), "the honest client's p99")

	stands(syscall.SIGKILL, aloneTime+time.Second)
	expect(prey.try(t, judgeRows[0], 2*time.Second), "the server died")
	prey.Kill()
}
