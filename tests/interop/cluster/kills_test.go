package cluster

import (
	"testing"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// The leader is killed again and again: 10 times, with LONG 100.
func TestLeaderKills(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, rig.UsualPlan)
	f := &rig.Figures{}
	for range long(10, 100) {
		leader := c.Leader()
		l.Recovery(f, leader.Kill)
		leader.Back()
	}
	l.Finish()
	f.Within(t, "leader killed", 300*time.Millisecond, 1500*time.Millisecond)
}

// Of five members two are down, the leader among them, and the three go on.
func TestFiveMembersTwoDown(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := rig.Start(t, 5)
	l := rig.NewLoad(t, c, rig.Plan{Pinned: 1, Free: 4, Rate: 500, Probes: 100})
	f := &rig.Figures{}
	for range long(3, 30) {
		leader := c.Leader()
		follower := c.Others(leader)[0]
		l.Recovery(f, func() {
			follower.Kill()
			leader.Kill()
		})
		// Three are enough, and another leader is one too few: that one must come back.
		next := c.Leader()
		l.UnderLoad()
		next.Kill()
		follower.Back()
		next.Back()
		leader.Back()
	}
	l.Finish()
	f.Within(t, "leader and a follower of five killed", 300*time.Millisecond, 2*time.Second)
}
