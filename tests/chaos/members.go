package chaos

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// memberFaults change who is in the cluster, and what leads it or is kept by it.
var memberFaults = []*fault{
	{kind: "member replaced", run: func(r *round) {
		lost := r.any()
		r.struck(lost.Kill)
		r.during(func() {
			r.load.Remove(lost)
			r.load.Add(false)
		})
	}},
	{kind: "learner promoted, follower removed", run: func(r *round) {
		r.during(func() {
			r.load.Add(true)
			r.load.Remove(r.follower())
		})
	}},
	{kind: "leader removed", run: func(r *round) {
		leader := r.cluster.Leader()
		r.during(func() {
			r.load.Remove(leader)
			r.load.Add(false)
		})
	}},
	{kind: "two members more, then two less", fits: three, run: func(r *round) {
		r.during(func() {
			r.load.Add(false)
			r.load.Add(true)
			r.load.Remove(r.follower())
			r.load.Remove(r.any())
		})
	}},
	{kind: "leadership handed over", run: func(r *round) {
		leader, next := r.cluster.Leader(), r.follower()
		id := next.ID()
		r.during(func() {
			client := r.cluster.Client(leader.Endpoint())
			r.load.Ask("move leader", func(ctx context.Context) error {
				if r.cluster.Leader() != leader {
					return nil
				}
				_, err := client.MoveLeader(ctx, id)
				return err
			})
		})
	}},
	{kind: "members defragmented", run: func(r *round) {
		r.during(func() {
			for _, member := range r.cluster.Members {
				client := r.cluster.Client(member.Endpoint())
				r.load.Ask("defragment", func(ctx context.Context) error {
					_, err := client.Defragment(ctx, member.Endpoint())
					return err
				})
			}
		})
	}},
	{kind: "compacted", run: func(r *round) {
		// What is compacted is judged as well, and watches must have heard it.
		revision := r.load.Heard()
		r.load.LogUpTo(revision)
		client, call := r.cluster.Client(r.cluster.Endpoints()...), r.load.Recorder.Now()
		r.during(func() {
			r.load.Ask("compact", func(ctx context.Context) error {
				_, err := client.Compact(ctx, revision)
				if errors.Is(err, rpctypes.ErrCompacted) {
					// It was done, and the answer did not arrive.
					return nil
				}
				return err
			})
		})
		r.load.Recorder.Compaction(revision, call)
	}},
}

func three(r *round) bool { return len(r.cluster.Members) == 3 }
