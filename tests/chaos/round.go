package chaos

import (
	"fmt"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"kvorum/interop/rig"
)

const (
	// loadMin is how many writes must be acknowledged in the second before a fault.
	loadMin = 50
	// loadPatience is how long that is waited for.
	loadPatience = 5 * time.Second
	kept         = 10
	keptTTL      = time.Minute
)

// round is one cluster and what happens to it.
type round struct {
	*testing.T
	cluster *rig.Cluster
	load    *rig.Load
	random  *rand.Rand
	// writer is one more client, for what faults need.
	writer *rig.Worker
	// tally is that of the fault that is under way.
	tally *Tally
	// took is what the fault that is under way has cost so far; negative before it is known.
	took time.Duration
}

// plan loads two cores as far as faults can still be told from slowness.
func plan(members int, seed int64) rig.Plan {
	p := rig.Plan{Pinned: 2, Free: 4, Rate: 1200, Probes: 100, Seed: seed}
	if members > 3 {
		p.Pinned = 1
	}
	return p
}

// run makes faults by lot until it is time, and judges what clients saw of them.
func (r *round) run(b *bag, until time.Time, report *Report) {
	begin := time.Now()
	// A round that does not come to its end is told as well.
	defer func() {
		report.Seconds = time.Since(begin).Seconds()
		report.Failed = r.Failed()
		if r.load != nil {
			report.Stall = max(report.Stall, r.load.Stall())
		}
	}()
	r.load = rig.NewLoad(r.T, r.cluster, plan(r.cluster.Setup.Members, r.random.Int63()))
	lost := r.load.KeepLeases(kept, keptTTL)
	r.writer = r.load.Worker(3000, r.load.Client())
	held := holdLeases(r.T, r.load.Client(), r.random.Int63())
	for first := true; first || time.Now().Before(until); first = false {
		one := b.draw(func(f *fault) bool { return f.fits == nil || f.fits(r) })
		if one == nil {
			r.Log("no kind of fault fits this cluster")
			break
		}
		report.Stall = max(report.Stall, r.meet(one, report.tally(one.kind)))
	}
	r.cluster.Ready()
	report.Leases = held.finish()
	report.Leases.Kept = kept
	if report.Leases.Lost = lost(); report.Leases.Lost > 0 {
		r.Errorf("%d leases that were kept alive are lost", report.Leases.Lost)
	}
	report.Verdict = r.load.Finish()
	if !r.Failed() {
		_ = os.Remove(r.load.Recorder.Path)
	}
}

// meet makes one fault, and enters what it cost. It tells how long the machine stood still.
func (r *round) meet(one *fault, tally *Tally) (stall time.Duration) {
	before := r.underLoad()
	r.load.Steady()
	r.tally, r.took = tally, -1
	r.Logf("%s %s", time.Now().UTC().Format(time.TimeOnly), one.kind)
	one.run(r)
	r.cluster.Network.Heal()
	r.cluster.Ready()
	if r.took < 0 {
		r.Fatalf("%s: nobody has measured what it cost", one.kind)
	}
	stall = r.load.Stall()
	r.Logf("    %v, after %d writes in a second; the machine stood still for %v",
		rig.Milli(r.took), before, rig.Milli(stall))
	switch {
	case before < loadMin:
		tally.Idle++
	case stall > rig.StallMax:
		tally.Unsteady++
	default:
		tally.Took = append(tally.Took, r.took)
		tally.Before = append(tally.Before, before)
	}
	return stall
}

// underLoad waits for enough load, but not for ever; how much there was in the last second.
func (r *round) underLoad() (before int) {
	for deadline := time.Now().Add(loadPatience); ; {
		since := r.load.Recorder.Now()
		time.Sleep(time.Second)
		before = r.load.Acknowledged(since)
		if r.load.Gap(since) > time.Second/2 {
			// Deletes are taken where there is no room for more.
			before = 0
		}
		if before >= loadMin || time.Now().After(deadline) {
			return before
		}
	}
}

// struck is a fault from which clients recover: how long that takes is measured.
func (r *round) struck(by func()) { r.took = max(r.took, r.load.Recovers(by)) }

// during is a fault in spite of which clients go on: their longest wait is measured.
func (r *round) during(what func()) {
	since := r.load.Recorder.Now()
	r.load.Recovers(what)
	r.took = max(r.took, r.load.Gap(since))
}

// outcome is told of a fault that may end in several ways.
func (r *round) outcome(words string) {
	r.Log("    " + words)
	if r.tally.Outcomes == nil {
		r.tally.Outcomes = map[string]int{}
	}
	r.tally.Outcomes[words]++
}

// any is a member by lot.
func (r *round) any() *rig.Member {
	return r.cluster.Members[r.random.Intn(len(r.cluster.Members))]
}

// follower is one by lot.
func (r *round) follower() *rig.Member {
	others := r.cluster.Others(r.cluster.Leader())
	return others[r.random.Intn(len(others))]
}

// a while is some time, by lot.
func (r *round) while(longest time.Duration) {
	time.Sleep(time.Duration(r.random.Int63n(int64(longest))))
}

// setup is a cluster's, by lot.
func (run Run) setup(random *rand.Rand) (s rig.Setup, words string) {
	s.Members = run.Members
	if s.Members == 0 {
		s.Members = []int{3, 3, 5}[random.Intn(3)]
	}
	said := []string{fmt.Sprintf("%d members", s.Members)}
	if run.lacks[disks] == "" {
		s.DiskMB, s.DiskOptions = diskMB, diskOptions
	}
	s.Args = []string{"--quota-backend-bytes=8589934592"}
	if random.Intn(2) == 0 {
		// Whoever is away for a second or two comes back by a snapshot.
		s.Args = append(s.Args, "--snapshot-count=1000", "--snapshot-catchup-entries=500")
		said = append(said, "short logs")
	}
	if random.Intn(2) == 0 && !run.etcd {
		s.Args = append(s.Args, "--auto-replace")
		said = append(said, "auto-replace")
	}
	// Certificates are not good before they were made, whatever a clock says.
	switch coin := random.Intn(2); {
	case coin == 0 && run.lacks[certificates] == "":
		s.TLS = true
		said = append(said, "TLS")
	case run.lacks[clocks] == "":
		s.Through = fakeClock(libfaketime())
		said = append(said, "clocks of their own")
	}
	return s, strings.Join(said, ", ")
}
