package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// newLeaderMax is how long it may take until others lead when a leader does not answer any more
// and nobody tells.
const newLeaderMax = 1500 * time.Millisecond

// The leader stands still, for shorter and longer than the others wait for it. What it answers
// when it wakes must not be from before it fell asleep.
func TestPauses(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.UsualPlan)
	pauses := []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second,
		4 * time.Second}
	if long(0, 1) == 1 {
		for _, seconds := range []time.Duration{1, 2, 5, 10, 20, 30} {
			for range 4 {
				pauses = append(pauses, seconds*time.Second, 700*time.Millisecond)
			}
		}
	}
	short, f := &rig.Figures{}, &rig.Figures{}
	for _, pause := range pauses {
		leader := c.Leader()
		resumed := make(chan struct{})
		var answered func()
		kind := f
		if pause < 2*time.Second {
			kind = short
		}
		l.Recovery(kind, func() {
			leader.Pause()
			// These lie in its sockets when it wakes.
			answered = l.ReadsAt(leader, 40)
			time.AfterFunc(pause, func() {
				leader.Resume()
				close(resumed)
			})
		})
		<-resumed
		answered()
		l.ReadsAt(leader, 40)()
		if err := leader.WaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	l.Finish()
	short.Within(t, "leader paused for up to 1.5 s", 2*time.Second, 3*time.Second)
	f.Within(t, "leader paused for longer", newLeaderMax, 2*newLeaderMax)
}

// Members do not hear each other. Clients reach all of them, also a leader that nobody follows.
func TestPartitions(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.UsualPlan)
	// Each cuts the leader off in another way, and says whether another one must be found.
	cuts := []struct {
		what string
		make func(leader *rig.Member, others []*rig.Member)
	}{
		{"leader isolated", func(leader *rig.Member, _ []*rig.Member) { c.Isolate(leader) }},
		{"leader not heard", func(leader *rig.Member, others []*rig.Member) {
			for _, other := range others {
				c.Network.Deafen(other.Host, leader.Host)
			}
		}},
		{"leader deaf", func(leader *rig.Member, others []*rig.Member) {
			c.Network.Deafen(leader.Host, others[0].Host, others[1].Host)
		}},
		{"leader and one follower apart", func(leader *rig.Member, others []*rig.Member) {
			c.Network.Cut(leader.Host, others[0].Host)
		}},
	}
	kinds := make([]rig.Figures, len(cuts))
	for range long(1, 8) {
		for i, cut := range cuts {
			leader := c.Leader()
			var early func()
			l.Recovery(&kinds[i], func() {
				cut.make(leader, c.Others(leader))
				early = l.ReadsAt(leader, 20)
			})
			late := l.ReadsAt(leader, 20)
			l.UnderLoad()
			c.Network.Heal()
			early()
			late()
			c.Ready()
		}
	}
	l.Finish()
	for i, cut := range cuts {
		kinds[i].Within(t, cut.what, newLeaderMax, 2*newLeaderMax)
	}
}

// Five members hear their two neighbours only: each sees a majority, and no two the same one. The
// leader keeps its own, and the two that do not hear it must not disturb, then or afterwards.
func TestRing(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 5)
	// Who asks the two waits.
	l := rig.NewLoad(t, c, rig.Plan{Pinned: 2, Free: 4, Rate: 900, Probes: 100})
	cut, healed := &rig.Figures{}, &rig.Figures{}
	for range long(2, 15) {
		l.Recovery(cut, func() {
			for i, member := range c.Members {
				c.Network.Deafen(member.Host, c.Members[(i+2)%5].Host, c.Members[(i+3)%5].Host)
			}
		})
		// rig.Long enough for the two to want an election.
		late := time.After(newLeaderMax)
		for _, member := range c.Members {
			defer l.ReadsAt(member, 10)()
		}
		l.UnderLoad()
		<-late
		l.Recovery(healed, c.Network.Heal)
		c.Ready()
	}
	l.Finish()
	cut.Within(t, "ring", newLeaderMax, 2*newLeaderMax)
	healed.Within(t, "ring healed", newLeaderMax, 2*newLeaderMax)
}

// A stale read does not go unnoticed: here are some that call themselves linearizable.
func TestStaleReadsAreNoticed(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.UsualPlan)
	follower := c.Others(c.Leader())[0]
	c.Isolate(follower)
	l.UnderLoad()
	w := l.Worker(3000, c.Client(follower.Endpoint()))
	w.Lies = true
	for range 5 {
		if err := w.Get(harness.Context(t), "k/", "k0", true); err != nil {
			t.Fatal(err)
		}
	}
	// The search for an order says so too, once, if it has come so far.
	violations := l.End().Violations
	stale := slices.DeleteFunc(slices.Clone(violations), func(violation string) bool {
		return !strings.HasPrefix(violation, "VIOLATION real time")
	})
	if len(stale) != 5 || len(violations) > 6 {
		t.Errorf("5 stale reads, and noticed were: %v", violations)
	}
}
