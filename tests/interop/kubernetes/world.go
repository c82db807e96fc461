package kubernetes

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"

	"kvorum/interop/harness"
)

// world is one run: a server, two apiservers' worth of clients, and what they saw.
type world struct {
	t       *testing.T
	server  *harness.Server
	history *history
	// The load ends before the watch caches, which are to hear of its last write.
	ctx    context.Context
	stop   context.CancelFunc
	group  sync.WaitGroup
	caches context.Context
	hangUp context.CancelFunc
	ears   sync.WaitGroup

	mutex   sync.Mutex
	lists   []*list
	watches []*watched
	figures map[string]int
	waits   []time.Duration
}

func newWorld(t *testing.T, server *harness.Server) *world {
	ctx, stop := context.WithCancel(context.Background())
	caches, hangUp := context.WithCancel(context.Background())
	t.Cleanup(stop)
	t.Cleanup(hangUp)
	return &world{t: t, server: server, history: &history{}, ctx: ctx, stop: stop,
		caches: caches, hangUp: hangUp, figures: map[string]int{}}
}

// apiserver is a client built as kube-apiserver builds it.
func (w *world) apiserver() *kubernetes.Client {
	w.t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:            []string{w.server.Endpoint()},
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = client.Close() })
	return client
}

// spawn runs a part of the load until the end of the run.
func (w *world) spawn(part func()) {
	w.group.Add(1)
	go func() {
		defer w.group.Done()
		part()
	}()
}

// listen runs a part that hears of the load until the caches end.
func (w *world) listen(part func()) {
	w.ears.Add(1)
	go func() {
		defer w.ears.Done()
		part()
	}()
}

// failCache is fail for what outlives the load.
func (w *world) failCache(format string, args ...any) {
	if w.caches.Err() == nil {
		w.stop()
		w.hangUp()
		w.t.Errorf(format, args...)
	}
}

// fail reports once and ends the run. Errors caused by the end of the run are none.
func (w *world) fail(format string, args ...any) {
	if w.ctx.Err() == nil {
		w.stop()
		w.t.Errorf(format, args...)
	}
}

func (w *world) over() bool { return w.ctx.Err() != nil }

// pause waits, but not beyond the end of the run.
func (w *world) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.ctx.Done():
	}
}

func (w *world) count(figure string, n int) {
	w.mutex.Lock()
	w.figures[figure] += n
	w.mutex.Unlock()
}

func (w *world) keepList(l *list) {
	w.mutex.Lock()
	w.lists = append(w.lists, l)
	w.mutex.Unlock()
}

func (w *world) keepWatch(one *watched) {
	w.mutex.Lock()
	w.watches = append(w.watches, one)
	w.mutex.Unlock()
}

// fresh checks that an answer to a request is not older than what was acknowledged before it.
func (w *world) fresh(what string, before, revision int64) {
	if revision < before {
		w.fail("%s answered at revision %d, after %d had been acknowledged", what, revision, before)
	}
	w.history.seen(revision)
}

var resources = []string{"/registry/pods/", "/registry/configmaps/", "/registry/leases/"}

const (
	objects     = 120
	writePeriod = 5 * time.Millisecond
)

// writer creates, updates and deletes objects with guards, some of them outdated.
func (w *world) writer(client *kubernetes.Client, seed int64) {
	random := rand.New(rand.NewSource(seed))
	known := map[string]int64{}
	tick := time.NewTicker(writePeriod)
	defer tick.Stop()
	for made := 0; !w.over(); made++ {
		<-tick.C
		key := fmt.Sprintf("%snamespace-%d/object-%03d", resources[random.Intn(len(resources))],
			random.Intn(3), random.Intn(objects))
		if random.Intn(10) == 0 {
			w.read(client, key, known)
		}
		value := make([]byte, 100+random.Intn(600))
		copy(value, fmt.Sprintf(`{"seed":%d,"made":%d}`, seed, made))
		if known[key] != 0 && random.Intn(4) == 0 {
			value = nil
		}
		w.write(client, key, value, known)
	}
}

func (w *world) read(client *kubernetes.Client, key string, known map[string]int64) {
	before := w.history.acknowledged.Load()
	r, err := client.Kubernetes.Get(w.ctx, key, kubernetes.GetOptions{})
	if err != nil {
		w.fail("get: %v", err)
		return
	}
	w.fresh("get", before, r.Revision)
	known[key] = r.KV.GetModRevision()
	w.count("gets", 1)
}

func (w *world) write(client *kubernetes.Client, key string, value []byte, known map[string]int64) {
	// A write under way when the run ends is waited for: its outcome must be known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), harness.Patience)
	defer cancel()
	before, guard := w.history.acknowledged.Load(), known[key]
	var succeeded bool
	var revision, current int64
	if value == nil {
		r, err := client.Kubernetes.OptimisticDelete(ctx, key, guard,
			kubernetes.DeleteOptions{GetOnFailure: true})
		if err != nil {
			w.t.Errorf("delete: %v", err)
			w.stop()
			return
		}
		succeeded, revision, current = r.Succeeded, r.Revision, r.KV.GetModRevision()
	} else {
		r, err := client.Kubernetes.OptimisticPut(ctx, key, value, guard,
			kubernetes.PutOptions{GetOnFailure: true})
		if err != nil {
			w.t.Errorf("put: %v", err)
			w.stop()
			return
		}
		succeeded, revision, current = r.Succeeded, r.Revision, r.KV.GetModRevision()
	}
	w.fresh("write", before, revision)
	switch {
	case !succeeded:
		if current == guard {
			w.fail("%s: refused although it is at %d", key, guard)
		}
		known[key] = current
		w.count("conflicts", 1)
	case value == nil:
		w.history.add(&write{revision: revision, key: key, guard: guard})
		known[key] = 0
		w.count("deletes", 1)
	default:
		w.history.add(&write{revision: revision, key: key, guard: guard, value: value})
		known[key] = revision
		w.count("puts", 1)
	}
}

// verify holds everything the readers kept against the history.
func (w *world) verify() {
	if err := w.history.settle(); err != nil {
		w.t.Error(err)
		return
	}
	if err := w.history.checkLists(w.lists); err != nil {
		w.t.Error(err)
	}
	w.figures["lists checked"] = len(w.lists)
	for _, one := range w.watches {
		events, bookmarks, err := w.history.checkWatch(one)
		if err != nil {
			w.t.Errorf("watch of %s from %d: %v", one.prefix, one.start, err)
		}
		w.figures["events checked"] += events
		w.figures["bookmarks checked"] += bookmarks
	}
	w.figures["watches checked"] = len(w.watches)
}

func (w *world) report() {
	names := make([]string, 0, len(w.figures))
	for name := range w.figures {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		w.t.Logf("%8d %s", w.figures[name], name)
	}
	if len(w.waits) > 0 {
		slices.Sort(w.waits)
		w.t.Logf("consistent read from a watch cache: %d, median %v, 99%% %v, longest %v",
			len(w.waits), w.waits[len(w.waits)/2], w.waits[len(w.waits)*99/100],
			w.waits[len(w.waits)-1])
	}
}

// position is how far a watch cache is known to be.
type position struct{ revision atomic.Int64 }
