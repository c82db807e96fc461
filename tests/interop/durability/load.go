package durability

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kvorum/interop/harness"
)

const (
	writers       = 4
	keysPerWriter = 12
	leaseTTL      = 100_000
	answerTimeout = 10 * time.Second

	leasesPerWriter = 8
)

// load writes to a server through bare stubs: nothing is retried behind the ledger's back.
type load struct {
	t       testing.TB
	server  *harness.Server
	ledger  *ledger
	writers []*writer
	// valueSize bounds the values written.
	valueSize int
	// kinds counts what was acknowledged.
	mutex sync.Mutex
	kinds map[string]int
	// failures are the errors of requests, other than refusals.
	failures []error
}

// writer owns its keys and leases, and waits for each answer: so it knows its state.
type writer struct {
	load   *load
	name   string
	random *rand.Rand
	made   int
	// keys are those it knows to exist, with their leases.
	keys   map[string]int64
	leases []int64
}

func newLoad(t testing.TB, server *harness.Server, seed int64) *load {
	l := &load{t: t, server: server, ledger: newLedger(), valueSize: 2000, kinds: map[string]int{}}
	for i := range writers {
		l.writers = append(l.writers, &writer{load: l, name: fmt.Sprintf("w%d", i),
			random: rand.New(rand.NewSource(seed + int64(i))), keys: map[string]int64{}})
	}
	return l
}

// run writes until the context ends or the server does.
func (l *load) run(ctx context.Context) {
	conn := l.server.Conn(l.t)
	kv, leases := pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	go l.look(watching, pb.NewWatchClient(conn))
	var group sync.WaitGroup
	for _, w := range l.writers {
		group.Go(func() {
			for ctx.Err() == nil && w.step(kv, leases) {
			}
		})
	}
	group.Go(func() { l.compact(ctx, kv) })
	group.Wait()
	_ = conn.Close()
}

// look watches: what a watcher was shown must survive as well.
func (l *load) look(ctx context.Context, client pb.WatchClient) {
	stream, err := client.Watch(ctx)
	if err != nil {
		return
	}
	create := &pb.WatchCreateRequest{Key: everything, RangeEnd: everything}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: create}}); err != nil {
		return
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		for _, event := range r.Events {
			l.ledger.shown(event.Kv.ModRevision)
		}
	}
}

// compact compacts now and then, to somewhere in the newer half of the history.
func (l *load) compact(ctx context.Context, kv pb.KVClient) {
	random := rand.New(rand.NewSource(l.ledger.newest))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(20+random.Intn(400)) * time.Millisecond):
		}
		l.ledger.mutex.Lock()
		span := l.ledger.newest - l.ledger.compacted
		revision := l.ledger.newest - random.Int63n(max(span/2, 1)) - 1
		if revision <= max(l.ledger.compacted, 1) {
			l.ledger.mutex.Unlock()
			continue
		}
		l.ledger.compacting = revision
		l.ledger.mutex.Unlock()
		request, cancel := context.WithTimeout(context.Background(), answerTimeout)
		_, err := kv.Compact(request, &pb.CompactionRequest{Revision: revision,
			Physical: random.Intn(2) == 0})
		cancel()
		if err != nil {
			return
		}
		l.ledger.mutex.Lock()
		if !l.ledger.deaf {
			l.ledger.compacted = revision
		}
		l.ledger.mutex.Unlock()
		l.count("compactions")
	}
}

func (l *load) count(kind string) {
	l.mutex.Lock()
	l.kinds[kind]++
	l.mutex.Unlock()
}

func (w *writer) key() string {
	return fmt.Sprintf("%s/%02d", w.name, w.random.Intn(keysPerWriter))
}

// existing is a key it knows to be there.
func (w *writer) existing() (string, bool) {
	if len(w.keys) == 0 {
		return "", false
	}
	var names []string
	for name := range w.keys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[w.random.Intn(len(names))], true
}

func (w *writer) value() *string {
	w.made++
	filler := strings.Repeat(string(rune('a'+w.made%26)), w.random.Intn(w.load.valueSize))
	value := fmt.Sprintf("%s-%d-%s", w.name, w.made, filler)
	return &value
}

// step makes one request. It says whether the writer still knows where it is.
func (w *writer) step(kv pb.KVClient, leases pb.LeaseClient) bool {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	switch n := w.random.Intn(100); {
	case n < 60:
		return w.put(ctx, kv)
	case n < 70:
		return w.remove(ctx, kv)
	case n < 88:
		return w.txn(ctx, kv)
	case n < 94 && len(w.leases) < leasesPerWriter:
		return w.grant(ctx, leases)
	default:
		return w.revoke(ctx, leases)
	}
}

func (w *writer) put(ctx context.Context, kv pb.KVClient) bool {
	key, value := w.key(), w.value()
	id := int64(0)
	if len(w.leases) > 0 && w.random.Intn(4) == 0 {
		id = w.leases[w.random.Intn(len(w.leases))]
	}
	e := w.load.ledger.ask(map[string]*string{key: value})
	r, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(*value), Lease: id})
	return w.settle("puts", e, r.GetHeader(), err, func() { w.keys[key] = id })
}

func (w *writer) remove(ctx context.Context, kv pb.KVClient) bool {
	key, ok := w.existing()
	if !ok {
		return true
	}
	e := w.load.ledger.ask(map[string]*string{key: nil})
	r, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(key)})
	return w.settle("deletes", e, r.GetHeader(), err, func() { delete(w.keys, key) })
}

// txn changes up to three keys in one revision.
func (w *writer) txn(ctx context.Context, kv pb.KVClient) bool {
	changes := map[string]*string{w.key(): w.value(), w.key(): w.value()}
	if gone, ok := w.existing(); ok && changes[gone] == nil {
		changes[gone] = nil
	}
	request := &pb.TxnRequest{}
	for key, value := range changes {
		if value == nil {
			request.Success = append(request.Success, &pb.RequestOp{
				Request: &pb.RequestOp_RequestDeleteRange{
					RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}})
			continue
		}
		request.Success = append(request.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(*value)}}})
	}
	e := w.load.ledger.ask(changes)
	r, err := kv.Txn(ctx, request)
	return w.settle("txns", e, r.GetHeader(), err, func() {
		for key, value := range changes {
			if value == nil {
				delete(w.keys, key)
			} else {
				w.keys[key] = 0
			}
		}
	})
}

func (w *writer) grant(ctx context.Context, leases pb.LeaseClient) bool {
	id := w.random.Int63()
	known := &lease{ttl: leaseTTL}
	ledger := w.load.ledger
	ledger.mutex.Lock()
	ledger.leases[id] = known
	ledger.mutex.Unlock()
	r, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL})
	o := outcomeOf(err)
	ledger.mutex.Lock()
	if !ledger.deaf {
		known.granted = o
	}
	ledger.mutex.Unlock()
	if o == acknowledged {
		ledger.shown(r.Header.Revision)
		w.leases = append(w.leases, id)
		w.load.count("grants")
	}
	return o != unknown
}

// revoke takes the lease's keys along, all in one revision.
func (w *writer) revoke(ctx context.Context, leases pb.LeaseClient) bool {
	if len(w.leases) == 0 {
		return true
	}
	i := w.random.Intn(len(w.leases))
	id := w.leases[i]
	changes := map[string]*string{}
	for key, attached := range w.keys {
		if attached == id {
			changes[key] = nil
		}
	}
	ledger := w.load.ledger
	ledger.mutex.Lock()
	known := ledger.leases[id]
	known.tried = true
	ledger.mutex.Unlock()
	e := ledger.ask(changes)
	r, err := leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	return w.settle("revokes", e, r.GetHeader(), err, func() {
		w.leases = slices.Delete(w.leases, i, i+1)
		for key := range changes {
			delete(w.keys, key)
		}
		ledger.mutex.Lock()
		if !ledger.deaf {
			known.revoked = acknowledged
		}
		ledger.mutex.Unlock()
	})
}

// settle enters the answer, and on success the writer's own state.
func (w *writer) settle(
	kind string, e *entry, header *pb.ResponseHeader, err error, done func(),
) bool {
	o := outcomeOf(err)
	w.load.ledger.answer(e, o, header.GetRevision())
	if o == acknowledged {
		done()
		w.load.count(kind)
	}
	if o == unknown {
		w.load.mutex.Lock()
		w.load.failures = append(w.load.failures, err)
		w.load.mutex.Unlock()
	}
	return o != unknown
}

// outcomeOf reads an error. Only what the server refuses before it applies anything is a refusal:
// etcd may apply what it answers with "database space exceeded".
func outcomeOf(err error) outcome {
	if err == nil {
		return acknowledged
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange:
		return refused
	default:
		return unknown
	}
}

var everything = []byte{0}

// observe reads all a server has.
func observe(t testing.TB, server *harness.Server) *observed {
	t.Helper()
	conn := server.Conn(t)
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	ctx := harness.ContextFor(t, time.Minute)
	read := func(revision int64) *pb.RangeResponse {
		t.Helper()
		r, err := kv.Range(ctx, &pb.RangeRequest{Key: everything, RangeEnd: everything,
			Revision: revision})
		if err != nil {
			t.Fatalf("read at %d: %v", revision, err)
		}
		return r
	}
	now := read(0)
	o := &observed{revision: now.Header.Revision, state: now.Kvs}
	watch := harness.OpenWatch(t, conn, false)
	defer watch.Close()
	o.compacted, o.events = history(watch, 1, o.revision)
	if o.compacted != 0 {
		_, o.events = history(watch, o.compacted+1, o.revision)
		o.base = read(o.compacted).Kvs
	}
	o.leases = observeLeases(t, ctx, pb.NewLeaseClient(conn))
	return o
}

// history reads all events from one revision to another, which has one, or how far it is compacted.
func history(watch *harness.WatchStream, from, to int64) (compacted int64, events []*mvccpb.Event) {
	watch.Create(&pb.WatchCreateRequest{Key: everything, RangeEnd: everything, StartRevision: from})
	for from <= to && to > 1 {
		r := watch.Next(time.Minute)
		if r.CompactRevision != 0 {
			return r.CompactRevision, nil
		}
		for _, event := range r.Events {
			events = append(events, event)
			from = event.Kv.ModRevision + 1
		}
	}
	return 0, events
}

func observeLeases(
	t testing.TB, ctx context.Context, client pb.LeaseClient,
) map[int64]observedLease {
	t.Helper()
	list, err := client.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	leases := map[int64]observedLease{}
	for _, one := range list.Leases {
		r, err := client.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: one.ID, Keys: true})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, key := range r.Keys {
			keys = append(keys, string(key))
		}
		slices.Sort(keys)
		leases[one.ID] = observedLease{r.GrantedTTL, keys}
	}
	return leases
}

// verify holds what the server has against the ledger, and lets the writers go on from there.
func (l *load) verify() error {
	o := observe(l.t, l.server)
	if err := l.ledger.check(o); err != nil {
		return err
	}
	for _, w := range l.writers {
		w.adopt(o.state, o.leases)
	}
	return nil
}

// adopt takes over what of its own is there.
func (w *writer) adopt(state []*mvccpb.KeyValue, leases map[int64]observedLease) {
	clear(w.keys)
	for _, kv := range state {
		if string(kv.Key[:len(w.name)]) == w.name {
			w.keys[string(kv.Key)] = kv.Lease
		}
	}
	var own []int64
	for _, id := range w.leases {
		if _, there := leases[id]; there {
			own = append(own, id)
		}
	}
	w.leases = own
}
