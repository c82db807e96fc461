package chaos

import (
	"time"

	"kvorum/interop/rig"
)

// cutMax is how long members do not hear each other.
const cutMax = 3 * time.Second

// networkFaults take away what members send each other. Clients reach all of them.
var networkFaults = []*fault{
	{kind: "leader isolated", run: func(r *round) {
		leader := r.cluster.Leader()
		r.cut(leader, func() { r.cluster.Isolate(leader) })
	}},
	{kind: "leader deaf", run: func(r *round) {
		leader := r.cluster.Leader()
		r.cut(leader, func() { r.deafen(leader, r.cluster.Others(leader)) })
	}},
	{kind: "leader not heard", run: func(r *round) {
		leader := r.cluster.Leader()
		r.cut(leader, func() {
			for _, other := range r.cluster.Others(leader) {
				r.cluster.Network.Deafen(other.Host, leader.Host)
			}
		})
	}},
	{kind: "leader and follower apart", run: func(r *round) {
		leader := r.cluster.Leader()
		r.cut(leader, func() { r.cluster.Network.Cut(leader.Host, r.follower().Host) })
	}},
	{kind: "two members apart", run: func(r *round) {
		one := r.any()
		other := r.cluster.Others(one)[0]
		r.cut(one, func() { r.cluster.Network.Cut(one.Host, other.Host) })
	}},
	{kind: "member deaf", run: func(r *round) {
		member := r.follower()
		r.cut(member, func() { r.deafen(member, r.cluster.Others(member)) })
	}},
	{kind: "ring", fits: five, run: func(r *round) {
		members := r.cluster.Members
		r.cut(r.any(), func() {
			for i, member := range members {
				r.deafen(member, []*rig.Member{members[(i+2)%5], members[(i+3)%5]})
			}
		})
	}},
	{kind: "all apart", run: func(r *round) {
		for _, member := range r.cluster.Members {
			r.deafen(member, r.cluster.Others(member))
		}
		early := r.load.ReadsAt(r.any(), 10)
		r.while(cutMax)
		r.struck(r.cluster.Network.Heal)
		early()
	}},
}

func (r *round) deafen(member *rig.Member, to []*rig.Member) {
	for _, other := range to {
		r.cluster.Network.Deafen(member.Host, other.Host)
	}
}

// cut makes a cut and mends it after a while. What a member answers then must not be old.
func (r *round) cut(asked *rig.Member, make func()) {
	var early func()
	r.struck(func() {
		make()
		early = r.load.ReadsAt(asked, 10)
	})
	late := r.load.ReadsAt(asked, 10)
	r.while(cutMax)
	r.cluster.Network.Heal()
	early()
	late()
}
