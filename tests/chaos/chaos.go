// Package chaos lets all kinds of faults happen to clusters of real processes, by lot and under
// load, and has everything judged that their clients saw.
//
//   - A run is rounds of some minutes, each with a cluster of its own, of three or five members on
//     disks and in network namespaces of their own. So neither memory nor the time to judge grows
//     with its length.
//   - A fault counts if there was load before it, and if the machine itself did not stand still
//     meanwhile. What this machine has no means for is skipped, by name and with what it lacks.
//   - The history of each round goes through tests/checker, and members must be equal at its end.
//
// run.sh starts it; README.md has the table of faults.
package chaos

import (
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"testing"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

const (
	// roundMin is how long rounds take, and roundMore how much longer by lot.
	roundMin, roundMore = 150 * time.Second, 100 * time.Second
	// failuresMax rounds that fail are enough to look at.
	failuresMax = 3
)

// Run is rounds, one after the other.
type Run struct {
	Seed    int64
	Length  time.Duration
	Members int
	// Kinds are the faults to make.
	Kinds *regexp.Regexp
	// Totals is a file that each round adds a line to; empty for none.
	Totals string
	// lacks are the means this machine does not have, and why.
	lacks map[string]string
	etcd  bool
}

// FromEnvironment is the run that run.sh was asked for.
func FromEnvironment(t *testing.T) Run {
	t.Helper()
	kinds, err := regexp.Compile(os.Getenv("FAULTS"))
	if err != nil {
		t.Fatalf("FAULTS: %v", err)
	}
	return Run{Seed: harness.Seed(t), Members: harness.Int(t, "MEMBERS", 0), Kinds: kinds,
		Length: time.Duration(harness.Int(t, "CHAOS_SECONDS", 300)) * time.Second,
		Totals: os.Getenv("TOTALS")}
}

// Do makes rounds until it is time, and prints what came of them.
func (run Run) Do(t *testing.T) {
	run.lacks, run.etcd = lacks(t), harness.UnderTest(t).Etcd
	b, skipped := newBag(rand.New(rand.NewSource(run.Seed)), run.Kinds, run.lacks)
	for kind, why := range skipped {
		t.Logf("SKIPPED: %s: %s", kind, why)
	}
	if len(b.all) == 0 {
		t.Fatal("there is no fault to make")
	}
	var reports []*Report
	failures, until := 0, time.Now().Add(run.Length)
	for number := 1; failures < failuresMax && (number == 1 || time.Now().Before(until)); number++ {
		report := run.round(t, number, b, until)
		reports = append(reports, report)
		if report.Failed {
			failures++
		}
	}
	if failures == failuresMax {
		t.Errorf("%d rounds have failed: that is enough to look at", failures)
	}
	sums := Sum(reports)
	sums.Print(os.Stdout, skipped)
	fmt.Printf("seed: SEED=%d\n", run.Seed)
	if len(sums.Faults) == 0 {
		t.Error("no fault was made")
	}
}

// round makes one, with lots of its own.
func (run Run) round(t *testing.T, number int, b *bag, until time.Time) *Report {
	report := &Report{Seed: run.Seed, Round: number, Began: time.Now().UTC()}
	random := rand.New(rand.NewSource(run.Seed + int64(number)))
	end := report.Began.Add(roundMin + time.Duration(random.Int63n(int64(roundMore))))
	if until.Sub(end) < roundMore {
		end = until
	}
	t.Run(fmt.Sprintf("round%d", number), func(t *testing.T) {
		defer func() { report.Failed = t.Failed() }()
		r := &round{T: t, random: random}
		var s rig.Setup
		s, report.Setup = run.setup(random)
		t.Log(report.Setup)
		r.cluster = rig.StartWith(t, s)
		r.run(b, end, report)
	})
	if run.Totals != "" {
		if err := report.Append(run.Totals); err != nil {
			t.Error(err)
		}
	}
	return report
}
