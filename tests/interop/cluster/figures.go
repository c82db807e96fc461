package cluster

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// figures are what a kind of fault cost, once per fault.
type figures struct {
	took []time.Duration
	// unsteady is how often the machine stood still meanwhile.
	unsteady int
}

// recoveryMax is when a cluster is given up.
const recoveryMax = 30 * time.Second

// Recovery makes a fault under load and enters how long it took from there until a write was
// acknowledged that was begun after it.
func (l *Load) Recovery(f *figures, fault func()) {
	l.t.Helper()
	l.underLoad()
	l.canary.longest.Store(0)
	begin := l.Recorder.Now()
	fault()
	made := l.Recorder.Now()
	seen := len(l.allAcks())
	var end int64
	harness.Eventually(l.t, recoveryMax, func() string {
		acks := l.allAcks()
		for ; seen < len(acks); seen++ {
			if acks[seen].call >= made {
				end = acks[seen].end
				return ""
			}
		}
		return "no write is acknowledged"
	})
	if stall := time.Duration(l.canary.longest.Load()); stall > stallMax {
		l.t.Logf("the machine stood still for %v: this fault is not counted", stall)
		f.unsteady++
		return
	}
	f.took = append(f.took, time.Duration(end-begin))
}

func (l *Load) allAcks() []ack {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.acks
}

// underLoad waits until there is enough load for a fault to mean something.
func (l *Load) underLoad() {
	l.t.Helper()
	const window = 500 * time.Millisecond
	var rate int64
	harness.Eventually(l.t, recoveryMax, func() string {
		before := l.answers.Load()
		time.Sleep(window)
		rate = (l.answers.Load() - before) * int64(time.Second/window)
		if rate < rateMin {
			return "too little load for a fault to mean anything"
		}
		return ""
	})
}

// at is a quantile of sorted durations.
func at(sorted []time.Duration, quantile float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(quantile*float64(len(sorted))), len(sorted)-1)]
}

func (f *figures) quantiles() (p50, p99, longest time.Duration) {
	slices.Sort(f.took)
	return at(f.took, 0.5), at(f.took, 0.99), at(f.took, 1)
}

// manyTimes is when a median says something: an election takes one to two seconds, by lot.
const manyTimes = 5

// Within reports the figures and holds a server to the times it promises, where times count; of few
// it is held to the second bound only.
func (f *figures) Within(t testing.TB, what string, p50Max, p99Max time.Duration) {
	t.Helper()
	p50, p99, longest := f.quantiles()
	t.Logf("%s, %d times: to the next acknowledged write p50 %v, p99 %v, longest %v (and %d times "+
		"while the machine stood still)", what, len(f.took), milli(p50), milli(p99),
		milli(longest), f.unsteady)
	if !harness.UnderTest(t).Timed() {
		return
	}
	if len(f.took) >= manyTimes && p50 > p50Max || p99 > p99Max {
		t.Errorf("%s: p50 %v, at most %v; p99 %v, at most %v", what, p50, p50Max, p99, p99Max)
	}
}

func milli(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// gap is the longest time without an acknowledged probe since some moment.
func (l *Load) gap(since int64) time.Duration {
	ends := []int64{since, l.Recorder.Now()}
	for _, a := range l.allAcks() {
		if a.probe && a.end > since {
			ends = append(ends, a.end)
		}
	}
	slices.Sort(ends)
	longest := int64(0)
	for i := range ends[1:] {
		longest = max(longest, ends[i+1]-ends[i])
	}
	return time.Duration(longest)
}

// latencies of the probes that were acknowledged since some moment.
func (l *Load) latencies(since int64) []time.Duration {
	var took []time.Duration
	for _, a := range l.allAcks() {
		if a.probe && a.call > since {
			took = append(took, time.Duration(a.end-a.call))
		}
	}
	slices.Sort(took)
	return took
}

// canary notices when the machine stands still: it only sleeps, and for how long it really did.
type canary struct{ longest atomic.Int64 }

// stallMax is a third of the election timeout: with more, elections are the machine's doing.
const stallMax = time.Second / 3

func newCanary(ctx context.Context) *canary {
	c := &canary{}
	go func() {
		for ctx.Err() == nil {
			begin := time.Now()
			time.Sleep(time.Millisecond)
			if over := int64(time.Since(begin)); over > c.longest.Load() {
				c.longest.Store(over)
			}
		}
	}()
	return c
}

// judge lets tests/checker judge a history, and returns what is wrong with it.
func judge(t testing.TB, history string) (violations []string) {
	t.Helper()
	checker := os.Getenv("CHECKER_BIN")
	if checker == "" {
		t.Fatal("CHECKER_BIN is not set: the binary of tests/tests.rs judges histories; " +
			"tests/interop/run.sh builds it")
	}
	command := exec.Command(checker, "--ignored", "--exact", "checker::recorded", "--nocapture")
	command.Env = append(os.Environ(), "HISTORY="+history)
	text, err := command.CombinedOutput()
	judged := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, history) {
			judged = true
			t.Log("checked: " + strings.TrimPrefix(line, history+": "))
		}
		if strings.HasPrefix(line, "VIOLATION") {
			violations = append(violations, line)
		}
	}
	if !judged || (err == nil) != (len(violations) == 0) {
		t.Errorf("the checker: %v\n%s", err, text)
	}
	return violations
}
