package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

const (
	leases      = 20
	leaseTTL    = 5
	stopTimeMax = 10 * time.Second
)

// All members are restarted, one after the other, while clients that know all of them work, watch
// and keep leases. etcd's client retries what it knows was not executed; nobody may notice more.
func TestRollingRestart(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	c := Start(t, 3)
	l := NewLoad(t, c, Plan{Free: 20, Rate: 1000, Probes: 50, Patient: true})
	kept := keepLeases(t, l)
	var stops figures
	begin := l.Recorder.Now()
	for range long(2, 20) {
		for _, member := range c.Members {
			l.underLoad()
			stopping := time.Now()
			if err := member.Stop(); err != nil {
				t.Fatal(err)
			}
			stops.took = append(stops.took, time.Since(stopping))
			member.Back()
		}
	}
	gap := l.gap(begin)
	lost := kept()
	l.Finish()
	failed := 0
	for _, count := range l.failures {
		failed += count
	}
	p50, _, longest := stops.quantiles()
	t.Logf("%d restarts under load: %d requests of %d failed, %d leases of %d lost, longest gap "+
		"between writes %v; SIGTERM to exit p50 %v, longest %v", len(stops.took), failed,
		l.answers.Load(), lost, leases, milli(gap), milli(p50), milli(longest))
	if c.program.Etcd {
		return
	}
	if failed != 0 || lost != 0 || c.program.Timed() && longest > stopTimeMax {
		t.Error("clients noticed the restarts")
	}
}

// keepLeases grants leases with a key each and keeps them alive; what it returns tells how many
// were lost.
func keepLeases(t *testing.T, l *Load) (lost func() int) {
	t.Helper()
	ctx := harness.Context(t)
	keeping, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	w := &worker{load: l, id: probeClient + 1000, client: l.free, known: map[string]int64{}}
	var ended atomic.Int64
	var ids []clientv3.LeaseID
	for i := range leases {
		granted, err := l.free.Grant(ctx, leaseTTL)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, granted.ID)
		key := fmt.Sprintf("lease/%d", i)
		if err := w.put(ctx, key, w.value(), clientv3.WithLease(granted.ID)); err != nil {
			t.Fatal(err)
		}
		renewals, err := l.free.KeepAlive(keeping, granted.ID)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range renewals {
			}
			if keeping.Err() == nil {
				ended.Add(1)
			}
		}()
	}
	return func() int {
		lost := int(ended.Load())
		ctx := harness.Context(t)
		for _, id := range ids {
			r, err := l.free.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
			if err != nil || r.TTL <= 0 || len(r.Keys) != 1 {
				t.Logf("lease %x: %+v, %v", id, r, err)
				lost++
			}
		}
		return lost
	}
}
