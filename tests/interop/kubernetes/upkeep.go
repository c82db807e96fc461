package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"

	"kvorum/interop/harness"
)

const (
	compactKey      = "compact_rev_key"
	compactInterval = 2 * time.Second
	eventPrefix     = "/registry/events/"
	eventTTL        = 4 * time.Second
	leaseObjects    = 40
)

// compactor is one apiserver's: whoever raises the version of the key first in an interval
// compacts, to where the store was an interval ago.
func (w *world) compactor(client *kubernetes.Client) {
	version, revision := int64(0), int64(0)
	for !w.over() {
		w.pause(compactInterval)
		r, err := client.Txn(w.ctx).
			If(clientv3.Compare(clientv3.Version(compactKey), "=", version)).
			Then(clientv3.OpPut(compactKey, strconv.FormatInt(revision, 10))).
			Else(clientv3.OpGet(compactKey)).Commit()
		if err != nil {
			w.fail("compactor: %v", err)
			return
		}
		target := revision
		revision = r.Header.Revision
		if !r.Succeeded {
			version = r.Responses[0].GetResponseRange().Kvs[0].Version
			w.count("compactions left to the other apiserver", 1)
			continue
		}
		version++
		if target == 0 {
			continue
		}
		_, err = client.Compact(w.ctx, target)
		if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
			w.fail("compact %d: %v", target, err)
		}
		w.count("compactions", 1)
	}
}

// object is an event object, which goes with its lease.
type object struct {
	lease   clientv3.LeaseID
	granted time.Time
	value   string
}

// recorder writes event objects; a lease is shared by those of a second.
func (w *world) recorder(client *kubernetes.Client) map[string]object {
	made := map[string]object{}
	var lease clientv3.LeaseID
	var granted time.Time
	attached := 0
	for i := 0; !w.over(); i++ {
		if attached == leaseObjects || time.Since(granted) > time.Second {
			granted, attached = time.Now(), 0
			r, err := client.Grant(w.ctx, int64(eventTTL/time.Second))
			if err != nil {
				w.fail("grant: %v", err)
				break
			}
			lease = r.ID
			w.count("leases", 1)
		}
		key := fmt.Sprintf("%sdefault/event-%06d", eventPrefix, i*7919%1_000_000)
		one := object{lease, granted, fmt.Sprint("event ", i)}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), harness.Patience)
		r, err := client.Kubernetes.OptimisticPut(ctx, key, []byte(one.value), 0,
			kubernetes.PutOptions{LeaseID: lease})
		cancel()
		if err != nil || !r.Succeeded {
			w.fail("event: %v, %v", err, r)
			break
		}
		made[key] = one
		attached++
		w.count("event objects", 1)
		w.pause(8 * time.Millisecond)
	}
	return made
}

// checkExpiry watches event objects come and go: each once, not early, with its lease's others in
// one revision and in order.
func checkExpiry(made map[string]object, told []arrival) error {
	there := map[string]int64{}
	gone := map[clientv3.LeaseID]int64{}
	last, lastKey := int64(0), ""
	for _, a := range told {
		key, revision := string(a.event.Kv.Key), a.event.Kv.ModRevision
		one, known := made[key]
		if !known {
			return fmt.Errorf("%s was never acknowledged", key)
		}
		if revision < last || revision == last && key <= lastKey {
			return fmt.Errorf("%s at %d after %s at %d", key, revision, lastKey, last)
		}
		last, lastKey = revision, key
		if a.event.Type == mvccpb.Event_PUT {
			if there[key] != 0 || string(a.event.Kv.Value) != one.value ||
				a.event.Kv.Lease != int64(one.lease) {
				return fmt.Errorf("%s: %s", key, harness.ShowKV(a.event.Kv))
			}
			there[key] = revision
			continue
		}
		if there[key] == 0 || a.event.PrevKv.GetModRevision() != there[key] {
			return fmt.Errorf("%s: gone with previous %s, was at %d", key,
				harness.ShowKV(a.event.PrevKv), there[key])
		}
		delete(there, key)
		if early := a.at.Sub(one.granted); early < eventTTL {
			return fmt.Errorf("%s: gone %v after its lease was asked for", key, early)
		}
		if at, begun := gone[one.lease]; begun && at != revision {
			return fmt.Errorf("%s: gone at %d, others of its lease at %d", key, revision, at)
		}
		gone[one.lease] = revision
	}
	if len(there) != 0 {
		return fmt.Errorf("%d objects outlived their leases", len(there))
	}
	return nil
}

// arrival is an event and when it was heard of.
type arrival struct {
	event *mvccpb.Event
	at    time.Time
}

// hear records the event objects until the caches end.
func (w *world) hear(client *kubernetes.Client, from int64) (told []arrival) {
	channel := client.Watch(clientv3.WithRequireLeader(w.caches), eventPrefix,
		clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithPrevKV())
	for response := range channel {
		if err := response.Err(); err != nil {
			w.failCache("watch of %s: %v", eventPrefix, err)
		}
		for _, event := range response.Events {
			told = append(told, arrival{(*mvccpb.Event)(event), time.Now()})
			if event.Type == mvccpb.Event_DELETE {
				w.count("event objects gone", 1)
			}
		}
	}
	return told
}
