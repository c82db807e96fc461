package chaos

import (
	"math/rand"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kvorum/interop/rig"
)

func bagOf(match string, lacking map[string]string) (*bag, map[string]string) {
	return newBag(rand.New(rand.NewSource(1)), regexp.MustCompile(match), lacking)
}

func anywhere(*fault) bool { return true }

// Each kind has its turn before any has its next, over many rounds.
func TestKindsTakeTurns(t *testing.T) {
	b, skipped := bagOf("", nil)
	if len(skipped) > 0 || len(b.all) != len(faults()) {
		t.Fatalf("skipped: %v", skipped)
	}
	for turn := range 3 {
		drawn := map[string]bool{}
		for range b.all {
			drawn[b.draw(anywhere).kind] = true
		}
		if len(drawn) != len(b.all) {
			t.Errorf("turn %d: %d kinds of %d", turn, len(drawn), len(b.all))
		}
	}
}

// A kind that does not fit a cluster waits for the next; the others go on.
func TestKindsWaitForTheirClusters(t *testing.T) {
	b, _ := bagOf("killed", nil)
	later := b.all[0]
	for range 10 * len(b.all) {
		if one := b.draw(func(f *fault) bool { return f != later }); one == nil || one == later {
			t.Fatalf("drew %v", one)
		}
	}
	if one := b.draw(anywhere); one != later {
		t.Errorf("%s was to come first, and %s did", later.kind, one.kind)
	}
	if one := b.draw(func(*fault) bool { return false }); one != nil {
		t.Errorf("%s does not fit", one.kind)
	}
}

// What this machine lacks the means for is named, whatever else there is.
func TestSkippedKindsAreNamed(t *testing.T) {
	b, skipped := bagOf("cut|killed", map[string]string{disks: "needs disks"})
	for _, one := range b.all {
		if slices.Contains(one.needs, disks) {
			t.Errorf("%s needs a disk", one.kind)
		}
	}
	if len(skipped) != 3 || len(b.all) == 0 {
		t.Errorf("skipped: %v, left: %d", skipped, len(b.all))
	}
	var out strings.Builder
	(&Sums{}).Print(&out, skipped)
	for kind := range skipped {
		if !strings.Contains(out.String(), "| "+kind+" | SKIPPED: needs disks |") {
			t.Errorf("%s is not told:\n%s", kind, &out)
		}
	}
}

// Kinds have names of their own, and need what somebody looks for.
func TestKindsAreTold(t *testing.T) {
	known, seen := map[string]bool{}, map[string]bool{}
	for _, one := range means {
		known[one.name] = true
	}
	for _, one := range faults() {
		if seen[one.kind] || one.run == nil {
			t.Errorf("%s: twice, or not at all", one.kind)
		}
		seen[one.kind] = true
		for _, need := range one.needs {
			if !known[need] {
				t.Errorf("%s needs %s, and nobody looks for that", one.kind, need)
			}
		}
	}
}

// Clusters differ, and none has certificates that its clocks would find too new.
func TestClustersDiffer(t *testing.T) {
	run, random, seen := Run{}, rand.New(rand.NewSource(1)), map[string]bool{}
	for range 200 {
		s, words := run.setup(random)
		seen[words] = true
		if s.TLS && s.Through != nil || s.DiskMB == 0 || s.Members != 3 && s.Members != 5 {
			t.Errorf("%s: %+v", words, s)
		}
	}
	// Members, logs, replacement; TLS or clocks.
	if len(seen) != 16 {
		t.Errorf("%d clusters: %v", len(seen), seen)
	}
	run = Run{Members: 5, etcd: true, lacks: map[string]string{disks: "", clocks: "none"}}
	for range 50 {
		s, _ := run.setup(random)
		if s.Members != 5 || slices.Contains(s.Args, "--auto-replace") || s.Through != nil {
			t.Errorf("%+v", s)
		}
	}
}

// Lines that several runs have added give the sums of all, and a table of them.
func TestTotalsAreSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "totals")
	one := &Report{Seed: 7, Round: 1, Seconds: 60, Setup: "3 members",
		Leases:  Leases{Kept: 10, Dropped: 5},
		Verdict: rig.Verdict{Operations: 100, Writes: 60, Reads: 40}}
	*one.tally("killed") = Tally{Took: []time.Duration{time.Second, 3 * time.Second},
		Before: []int{90, 60}, Idle: 1, Outcomes: map[string]int{"healed": 2}}
	other := &Report{Seed: 8, Round: 1, Seconds: 30, Failed: true, Stall: 4 * time.Second,
		Verdict: rig.Verdict{Operations: 10, Violations: []string{"VIOLATION: lost"}}}
	*other.tally("killed") = Tally{Took: []time.Duration{2 * time.Second}, Before: []int{70},
		Unsteady: 1, Outcomes: map[string]int{"healed": 1}}
	for _, r := range []*Report{one, other} {
		if err := r.Append(path); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(reports, []*Report{one, other}) {
		t.Errorf("read %+v", reports)
	}
	sums := Sum(reports)
	var out strings.Builder
	sums.Print(&out, nil)
	for _, line := range []string{
		"| killed | 3 | 2s | 3s | 70 | 60 | 1 | 1 |", "killed: healed, 3 times",
		"3 faults of 1 kinds counted, 2 not; 0 kinds skipped; 2 rounds in 1m30s",
		"110 operations judged", "1 violations; 1 rounds failed", "VIOLATION: lost",
		"round 1 of SEED=8 () failed; the machine stood still for 4s at most",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("not told: %s\n%s", line, &out)
		}
	}
}
