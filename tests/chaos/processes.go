package chaos

import (
	"time"

	"kvorum/interop/rig"
)

// processFaults end and stop processes.
var processFaults = []*fault{
	{kind: "leader killed", run: func(r *round) {
		leader := r.cluster.Leader()
		r.struck(leader.Kill)
		leader.Back()
	}},
	{kind: "member killed", run: func(r *round) {
		member := r.any()
		r.struck(member.Kill)
		r.while(time.Second)
		member.Back()
	}},
	{kind: "all members killed", run: func(r *round) {
		for _, member := range r.cluster.Members {
			member.Kill()
		}
		r.struck(func() { r.spawn(r.cluster.Members) })
	}},
	{kind: "minority killed, the leader with it", fits: five, run: func(r *round) {
		leader := r.cluster.Leader()
		follower := r.cluster.Others(leader)[r.random.Intn(4)]
		r.struck(func() {
			follower.Kill()
			leader.Kill()
		})
		r.while(time.Second)
		r.spawn([]*rig.Member{leader, follower})
	}},
	{kind: "member restarted", run: func(r *round) {
		member := r.any()
		r.struck(func() { r.stop(member) })
		member.Back()
	}},
	{kind: "rolling restart", run: func(r *round) {
		r.during(func() {
			for _, member := range r.cluster.Members {
				r.stop(member)
				member.Back()
			}
		})
	}},
	{kind: "member paused", run: func(r *round) { r.paused(r.follower()) }},
	{kind: "leader paused", run: func(r *round) { r.paused(r.cluster.Leader()) }},
}

func five(r *round) bool { return len(r.cluster.Members) == 5 }

func (r *round) spawn(members []*rig.Member) {
	for _, member := range members {
		if err := member.Spawn(); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *round) stop(member *rig.Member) {
	if err := member.Stop(); err != nil {
		r.Fatal(err)
	}
}

// paused lets a member stand still. What it answers when it wakes must not be old.
func (r *round) paused(member *rig.Member) {
	length := time.Duration(100+r.random.Intn(3000)) * time.Millisecond
	resumed := make(chan struct{})
	var answered func()
	r.struck(func() {
		member.Pause()
		// These lie in its sockets when it wakes.
		answered = r.load.ReadsAt(member, 20)
		time.AfterFunc(length, func() {
			member.Resume()
			close(resumed)
		})
	})
	<-resumed
	answered()
	r.load.ReadsAt(member, 20)()
}
