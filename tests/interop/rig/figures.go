package rig

import (
	"context"
	"slices"
	"sort"
	"sync/atomic"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// Figures are what a kind of fault cost, once per fault.
type Figures struct {
	Took []time.Duration
	// Unsteady is how often the machine stood still meanwhile.
	Unsteady int
}

// recoveryMax is when a cluster is given up.
const recoveryMax = 30 * time.Second

// Recovery makes a fault under load and enters how long it took from there until a write was
// acknowledged that was begun after it.
func (l *Load) Recovery(f *Figures, fault func()) {
	l.t.Helper()
	l.UnderLoad()
	l.Steady()
	took := l.Recovers(fault)
	if stall := l.Stall(); stall > StallMax {
		l.t.Logf("the machine stood still for %v: this fault is not counted", stall)
		f.Unsteady++
		return
	}
	f.Took = append(f.Took, took)
}

// Recovers makes a fault and tells how long it took from there until a write was acknowledged that
// was begun after it.
func (l *Load) Recovers(fault func()) time.Duration {
	l.t.Helper()
	begin := l.Recorder.Now()
	fault()
	made := l.Recorder.Now()
	seen := len(l.allAcks())
	for {
		acks := l.allAcks()
		for ; seen < len(acks); seen++ {
			if acks[seen].call >= made {
				return time.Duration(acks[seen].end - begin)
			}
		}
		// While the machine stood still nobody could do anything.
		if took := time.Duration(l.Recorder.Now() - made); took > recoveryMax+l.Stall() {
			l.t.Fatalf("after %v still no write is acknowledged", took)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *Load) allAcks() []ack {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.acks
}

// Steady forgets how long the machine stood still.
func (l *Load) Steady() { l.canary.longest.Store(0) }

// Stall is how long the machine stood still at a time since then.
func (l *Load) Stall() time.Duration { return time.Duration(l.canary.longest.Load()) }

// Acknowledged is how many writes were acknowledged since some moment.
func (l *Load) Acknowledged(since int64) int {
	acks := l.allAcks()
	first := sort.Search(len(acks), func(i int) bool { return acks[i].end >= since })
	return len(acks) - first
}

// UnderLoad waits until there is enough load for a fault to mean something.
func (l *Load) UnderLoad() {
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

// At is a quantile of sorted durations.
func At(sorted []time.Duration, quantile float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(quantile*float64(len(sorted))), len(sorted)-1)]
}

func (f *Figures) Quantiles() (p50, p99, longest time.Duration) {
	slices.Sort(f.Took)
	return At(f.Took, 0.5), At(f.Took, 0.99), At(f.Took, 1)
}

// manyTimes is when a median says something: an election takes one to two seconds, by lot.
const manyTimes = 5

// Within reports the figures and holds a server to the times it promises, where times count; of few
// it is held to the second bound only.
func (f *Figures) Within(t testing.TB, what string, p50Max, p99Max time.Duration) {
	t.Helper()
	p50, p99, longest := f.Quantiles()
	t.Logf("%s, %d times: to the next acknowledged write p50 %v, p99 %v, longest %v (and %d times "+
		"while the machine stood still)", what, len(f.Took), Milli(p50), Milli(p99),
		Milli(longest), f.Unsteady)
	if !harness.UnderTest(t).Timed() {
		return
	}
	if len(f.Took) >= manyTimes && p50 > p50Max || p99 > p99Max {
		t.Errorf("%s: p50 %v, at most %v; p99 %v, at most %v", what, p50, p50Max, p99, p99Max)
	}
}

func Milli(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Gap is the longest time without an acknowledged probe since some moment.
func (l *Load) Gap(since int64) time.Duration {
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

// Latencies of the probes that were acknowledged since some moment.
func (l *Load) Latencies(since int64) []time.Duration {
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

// StallMax is a third of the election timeout: with more, elections are the machine's doing.
const StallMax = time.Second / 3

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
