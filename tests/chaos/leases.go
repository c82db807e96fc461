package chaos

import (
	"context"
	"errors"
	"math/rand"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

const (
	// holders have one lease each at a time.
	holders = 6
	ttlMin  = 3
	ttlMax  = 6
)

// holding is clients that hold leases, renew them for a while, and let them go. A lease must not
// end before its time: that is counted from when a renewal was sent that was acknowledged.
type holding struct {
	t      *testing.T
	client *clientv3.Client
	stop   context.CancelFunc
	group  sync.WaitGroup

	mutex  sync.Mutex
	let    []clientv3.LeaseID
	counts Leases
}

func holdLeases(t *testing.T, client *clientv3.Client, seed int64) *holding {
	ctx, stop := context.WithCancel(context.Background())
	h := &holding{t: t, client: client, stop: stop}
	for number := range holders {
		random := rand.New(rand.NewSource(seed + int64(number)))
		h.group.Go(func() {
			for ctx.Err() == nil {
				h.hold(ctx, random)
			}
		})
	}
	// A round that fails must not leave them at work.
	t.Cleanup(func() {
		stop()
		h.group.Wait()
	})
	return h
}

// hold has one lease and renews it some times.
func (h *holding) hold(ctx context.Context, random *rand.Rand) {
	sent := time.Now()
	granted, err := h.grant(ctx, int64(ttlMin+random.Intn(ttlMax-ttlMin+1)))
	if err != nil {
		sleep(ctx, 200*time.Millisecond)
		return
	}
	ttl := time.Duration(granted.TTL) * time.Second
	promised := sent.Add(ttl)
	for range random.Intn(8) {
		sleep(ctx, time.Duration(random.Int63n(int64(ttl*9/10))))
		sent = time.Now()
		_, err := h.renew(ctx, granted.ID, promised)
		heard := time.Now()
		switch {
		case err == nil:
			promised = sent.Add(ttl)
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			if heard.Before(promised) {
				h.early(granted.ID, promised.Sub(heard))
			}
			return
		}
	}
	h.mutex.Lock()
	h.counts.Dropped++
	h.let = append(h.let, granted.ID)
	h.mutex.Unlock()
}

func (h *holding) grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return h.client.Grant(ctx, ttl)
}

func (h *holding) renew(ctx context.Context, id clientv3.LeaseID, promised time.Time) (
	*clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithDeadline(ctx, promised.Add(time.Second))
	defer cancel()
	return h.client.KeepAliveOnce(ctx, id)
}

func (h *holding) early(id clientv3.LeaseID, by time.Duration) {
	h.t.Errorf("lease %x ended %v before its time", id, by)
	h.mutex.Lock()
	h.counts.Early++
	h.mutex.Unlock()
}

// lateMax is how much longer than their time leases may be there once all is well: each change of
// leaders begins it anew.
const lateMax = 10 * time.Second

// finish ends it and waits until all leases have ended that were let go.
func (h *holding) finish() Leases {
	h.stop()
	h.group.Wait()
	ctx := harness.ContextFor(h.t, ttlMax*time.Second+lateMax)
	for _, id := range h.let {
		for {
			left, err := h.client.TimeToLive(ctx, id)
			if err == nil && left.TTL == -1 {
				break
			}
			if ctx.Err() != nil {
				h.counts.Late++
				h.t.Errorf("lease %x has not ended: %+v, %v", id, left, err)
				break
			}
			sleep(ctx, 50*time.Millisecond)
		}
	}
	return h.counts
}

func sleep(ctx context.Context, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
}
