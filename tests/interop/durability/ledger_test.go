package durability

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"kvorum/interop/harness"
)

func (o *observed) clone() *observed {
	c := &observed{revision: o.revision, compacted: o.compacted,
		leases: map[int64]observedLease{}}
	for _, kv := range o.base {
		c.base = append(c.base, proto.Clone(kv).(*mvccpb.KeyValue))
	}
	for _, kv := range o.state {
		c.state = append(c.state, proto.Clone(kv).(*mvccpb.KeyValue))
	}
	for _, event := range o.events {
		c.events = append(c.events, proto.Clone(event).(*mvccpb.Event))
	}
	for id, l := range o.leases {
		c.leases[id] = observedLease{l.ttl, slices.Clone(l.keys)}
	}
	return c
}

// The ledger sees every lie about a store that a real load left behind.
func TestLedgerNotices(t *testing.T) {
	server := harness.Start(t, harness.Reference(t), harness.Options{})
	l := newLoad(t, server, harness.Seed(t))
	var truth *observed
	for range 10 {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		l.run(ctx)
		stop()
		truth = observe(t, server)
		if truth.compacted != 0 && len(truth.leases) != 0 && len(truth.base) > 4 &&
			len(truth.events) > 50 {
			break
		}
	}
	if truth.compacted == 0 || len(truth.leases) == 0 || len(truth.events) <= 50 {
		t.Fatalf("too little happened: compacted %d, %d leases, %d events", truth.compacted,
			len(truth.leases), len(truth.events))
	}
	for name, lie := range lies() {
		o := truth.clone()
		lie(o)
		compacted := l.ledger.compacted
		if err := l.ledger.check(o); err == nil {
			t.Fatalf("unnoticed: %s", name)
		}
		l.ledger.compacted = compacted
	}
	if err := l.ledger.check(truth); err != nil {
		t.Errorf("the truth: %v", err)
	}
}

// lies are ways to have something else than was acknowledged.
func lies() map[string]func(o *observed) {
	return map[string]func(o *observed){
		"an older revision": func(o *observed) { o.revision-- },
		"the last revision taken back": func(o *observed) {
			for o.events[len(o.events)-1].Kv.ModRevision == o.revision {
				o.events = o.events[:len(o.events)-1]
			}
			o.revision--
		},
		"compacted less":   func(o *observed) { o.compacted-- },
		"compacted more":   func(o *observed) { o.compacted++ },
		"a lost event":     func(o *observed) { o.events = slices.Delete(o.events, 3, 4) },
		"another value":    func(o *observed) { firstPut(o).Value = []byte("other") },
		"another version":  func(o *observed) { firstPut(o).Version++ },
		"another creation": func(o *observed) { firstPut(o).CreateRevision-- },
		"a delete for a put": func(o *observed) {
			firstPutEvent(o).Type = mvccpb.Event_DELETE
		},
		"a write of nobody's":       func(o *observed) { firstPut(o).Key = []byte("stranger") },
		"a lost row":                func(o *observed) { o.state = o.state[1:] },
		"a row too many":            func(o *observed) { o.state = append(o.state, o.state[0]) },
		"a row of another value":    func(o *observed) { o.state[2].Value = []byte("other") },
		"a row of another lease":    func(o *observed) { o.state[2].Lease++ },
		"a lost row of the base":    func(o *observed) { o.base = o.base[1:] },
		"an older row of the base":  func(o *observed) { o.base[1].ModRevision-- },
		"a foreign row of the base": func(o *observed) { o.base[1].Value = []byte("other") },
		"a lost lease": func(o *observed) {
			for id := range o.leases {
				delete(o.leases, id)
				return
			}
		},
		"a lease of nobody's": func(o *observed) { o.leases[1] = observedLease{ttl: leaseTTL} },
		"a lease of another time": func(o *observed) {
			for id, l := range o.leases {
				o.leases[id] = observedLease{l.ttl + 1, l.keys}
			}
		},
		"a lease with a key too many": func(o *observed) {
			for id, l := range o.leases {
				o.leases[id] = observedLease{l.ttl, append(l.keys, "zzz")}
			}
		},
	}
}

func firstPutEvent(o *observed) *mvccpb.Event {
	for _, event := range o.events[5:] {
		if event.Type == mvccpb.Event_PUT {
			return event
		}
	}
	return nil
}

func firstPut(o *observed) *mvccpb.KeyValue { return firstPutEvent(o).Kv }
