package rig

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// KeepLeases grants leases with a key each and keeps them alive; what it returns tells how many
// were lost.
func (l *Load) KeepLeases(count int, ttl time.Duration) (lost func() int) {
	l.t.Helper()
	ctx := harness.Context(l.t)
	keeping, stop := context.WithCancel(context.Background())
	l.t.Cleanup(stop)
	w := l.Worker(1000, l.free)
	var ended atomic.Int64
	var ids []clientv3.LeaseID
	for i := range count {
		granted, err := l.free.Grant(ctx, int64(ttl/time.Second))
		if err != nil {
			l.t.Fatal(err)
		}
		ids = append(ids, granted.ID)
		key := fmt.Sprintf("lease/%d", i)
		if err := w.Put(ctx, key, w.Value(), clientv3.WithLease(granted.ID)); err != nil {
			l.t.Fatal(err)
		}
		renewals, err := l.free.KeepAlive(keeping, granted.ID)
		if err != nil {
			l.t.Fatal(err)
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
		ctx := harness.Context(l.t)
		for _, id := range ids {
			r, err := l.free.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
			if err != nil || r.TTL <= 0 || len(r.Keys) != 1 {
				l.t.Logf("lease %x: %+v, %v", id, r, err)
				lost++
			}
		}
		return lost
	}
}
