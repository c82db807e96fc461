package rig

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// watched is what the watchers watch: all keys but what only fills the store.
const watched, watchedEnd = "k/", "k0"

// progressEvery is how often watchers ask how far they are.
const progressEvery = 300 * time.Millisecond

// watcher hears everything the load writes, from the first revision on. clientv3 resumes it
// whenever its stream ends, and nothing may get lost over that.
type watcher struct {
	id     uint64
	newest atomic.Int64
}

func (l *Load) watch(ctx context.Context, client *clientv3.Client) {
	w := &watcher{id: l.Recorder.watch(watched, watchedEnd, 1)}
	l.watchers = append(l.watchers, w)
	l.group.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(progressEvery)
			// What it says comes as a response of the watch, if it comes.
			_ = client.RequestProgress(ctx)
		}
	})
	l.group.Go(func() {
		for ctx.Err() == nil {
			// What a response has is all of its revision.
			responses := client.Watch(ctx, watched, clientv3.WithRange(watchedEnd),
				clientv3.WithRev(w.newest.Load()+1), clientv3.WithPrevKV(),
				clientv3.WithProgressNotify())
			if err := l.hear(w, responses); err != nil && ctx.Err() == nil {
				l.t.Errorf("a watch ended: %v", err)
				return
			}
		}
	})
}

// hear enters what a watch hears until it ends. A member that was replaced by itself is a learner
// for a moment, and watches must go elsewhere or come again.
func (l *Load) hear(w *watcher, responses clientv3.WatchChan) error {
	for response := range responses {
		if err := response.Err(); err != nil {
			if errors.Is(err, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)) {
				time.Sleep(100 * time.Millisecond)
				return nil
			}
			return err
		}
		l.Recorder.heard(w.id, response)
		// While it catches up, the header is of a later revision.
		if count := len(response.Events); count > 0 {
			w.newest.Store(response.Events[count-1].Kv.ModRevision)
		}
	}
	return nil
}

// Finish ends the load and all faults and judges everything that happened.
func (l *Load) Finish() Verdict {
	l.t.Helper()
	verdict := l.End()
	for _, violation := range verdict.Violations {
		l.t.Error(violation)
	}
	return verdict
}

// End ends the load and all faults, and tells what is wrong with the history.
func (l *Load) End() Verdict {
	l.t.Helper()
	// The last write tells how far everything must have come.
	l.cluster.Network.Heal()
	l.cluster.Ready()
	var last int64
	harness.Eventually(l.t, time.Minute, func() string {
		w := &Worker{load: l, id: 0, client: l.free, known: map[string]int64{},
			made: int(l.Recorder.Now())}
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		if err := w.Put(ctx, "k/end", w.Value()); err != nil {
			return err.Error()
		}
		last = w.known["k/end"]
		return ""
	})
	for _, w := range l.watchers {
		harness.Eventually(l.t, harness.Patience, func() string {
			if w.newest.Load() < last {
				return "a watch waits for events"
			}
			return ""
		})
		l.Recorder.line("until", untilLine{w.id, last})
	}
	l.stop()
	l.group.Wait()
	l.LogUpTo(l.newest())
	l.same(l.t)
	l.Recorder.close()
	l.t.Logf("errors of clients that go to any member: %v", l.Failures())
	return Judge(l.t, l.Recorder.Path)
}

// newest is the store's revision.
func (l *Load) newest() int64 {
	l.t.Helper()
	client := l.cluster.Client(l.cluster.Members[0].Endpoint())
	now, err := client.Get(harness.Context(l.t), "k/end")
	if err != nil {
		l.t.Fatal(err)
	}
	return now.Header.Revision
}

// Heard is up to which revision all watchers have heard everything.
func (l *Load) Heard() int64 {
	heard := int64(math.MaxInt64)
	for _, w := range l.watchers {
		heard = min(heard, w.newest.Load())
	}
	return heard
}

// LogUpTo records what the first member has kept, so far and no more than once. What is compacted
// must have been recorded before.
func (l *Load) LogUpTo(revision int64) {
	t := l.t
	t.Helper()
	if revision <= l.logged {
		return
	}
	client := l.cluster.Client(l.cluster.Members[0].Endpoint())
	watching, stop := context.WithCancel(harness.ContextFor(t, 5*time.Minute))
	defer stop()
	watch := client.Watch(watching, "\x00", clientv3.WithFromKey(), clientv3.WithRev(l.logged+1))
	for l.logged < revision {
		response := harness.Hear(t, watch)
		if err := response.Err(); err != nil {
			t.Fatal(err)
		}
		// A revision is never in two responses.
		for _, event := range response.Events {
			l.Recorder.line("log", eventOf(event))
			l.logged = event.Kv.ModRevision
		}
	}
}

// same checks that all members have the same.
func (l *Load) same(t testing.TB) {
	t.Helper()
	client := l.cluster.Client(l.cluster.Endpoints()...)
	ctx := harness.ContextFor(t, time.Minute)
	now, err := client.Get(ctx, "k/end")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[uint32][]string{}
	for _, member := range l.cluster.Members {
		harness.Eventually(t, harness.Patience, func() string {
			r, err := client.HashKV(ctx, member.Endpoint(), now.Header.Revision)
			if err != nil {
				return err.Error()
			}
			hashes[r.Hash] = append(hashes[r.Hash], member.Options.Name)
			return ""
		})
	}
	if len(hashes) != 1 {
		t.Errorf("members differ at revision %d: %v", now.Header.Revision, hashes)
	}
}
