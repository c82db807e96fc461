package rig

import (
	"context"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

const (
	keys = 10
	// requestTimeout is how long a client waits for an answer, unless it is patient.
	requestTimeout = 2 * time.Second
	patience       = 15 * time.Second
	// rateMin is the load, in answers per second, under which a fault shows nothing.
	rateMin = 200
	// probeClient is the number under which probes stand in the history.
	probeClient = 9000
)

// Plan says how clients load a cluster.
type Plan struct {
	// Pinned clients stay with one member, so many with each; free ones go where they find an
	// answer.
	Pinned, Free int
	// Rate is how many requests per second all of them make at most, together.
	Rate int
	// Probes per second are puts that wait for nobody: they show when writes go on.
	Probes int
	// Patient clients wait for an answer as long as it takes.
	Patient bool
	// Seed of what they ask; 0 is the test's.
	Seed int64
}

// UsualPlan loads two cores without filling them.
var UsualPlan = Plan{Pinned: 2, Free: 4, Rate: 700, Probes: 100}

// Load is clients at work on a cluster, everything they do recorded.
type Load struct {
	Recorder *Recorder
	t        testing.TB
	cluster  *Cluster
	plan     Plan
	stop     context.CancelFunc
	group    sync.WaitGroup
	canary   *canary
	probe    atomic.Pointer[clientv3.Client]
	free     *clientv3.Client
	watchers []*watcher
	answers  atomic.Int64
	clients  uint64
	pinned   []*pin
	// logged is up to where the history has the log.
	logged int64

	mutex sync.Mutex
	// acks are the writes that were acknowledged.
	acks []ack
	// failures are errors of the free clients, by text.
	failures map[string]int
}

// pin is a client that stays with one member, while it is one.
type pin struct {
	member *Member
	client *clientv3.Client
}

// ack is an acknowledged write, by the history's clock.
type ack struct {
	call, end int64
	probe     bool
}

// NewLoad starts to load a cluster.
func NewLoad(t testing.TB, c *Cluster, plan Plan) *Load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	if plan.Seed == 0 {
		plan.Seed = harness.Seed(t)
	}
	l := &Load{Recorder: NewRecorder(t), t: t, cluster: c, plan: plan,
		stop: stop, canary: newCanary(ctx), failures: map[string]int{}}
	l.free = c.Client(c.Endpoints()...)
	l.ProbeThrough(l.free)
	workers := plan.Free
	if plan.Pinned > 0 {
		workers += plan.Pinned * len(c.Members)
		for _, member := range c.Members {
			pinned := c.Client(member.Endpoint())
			l.pinned = append(l.pinned, &pin{member, pinned})
			for range plan.Pinned {
				l.work(ctx, pinned, false, workers)
			}
			l.watch(ctx, pinned)
		}
	}
	for range plan.Free {
		l.work(ctx, l.free, true, workers)
	}
	l.watch(ctx, l.free)
	l.group.Go(func() { l.probes(ctx) })
	// Last, so that this ends before its clients do.
	t.Cleanup(func() {
		stop()
		l.group.Wait()
	})
	return l
}

// ProbeThrough lets probes take a client of their own.
func (l *Load) ProbeThrough(client *clientv3.Client) { l.probe.Store(client) }

// Follow tells clients where members are now: the free ones, and those whose member is gone.
func (l *Load) Follow() {
	l.free.SetEndpoints(l.cluster.Endpoints()...)
	left := l.cluster.Members
	for _, pin := range l.pinned {
		left = slices.DeleteFunc(slices.Clone(left), func(m *Member) bool { return m == pin.member })
	}
	for _, pin := range l.pinned {
		if len(left) > 0 && !slices.Contains(l.cluster.Members, pin.member) {
			pin.member, left = left[0], left[1:]
			pin.client.SetEndpoints(pin.member.Endpoint())
		}
	}
}

// Client goes to any member, wherever members are.
func (l *Load) Client() *clientv3.Client { return l.free }

// Answers is how many requests were answered.
func (l *Load) Answers() int64 { return l.answers.Load() }

// Failures are errors of the free clients, by text.
func (l *Load) Failures() map[string]int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return maps.Clone(l.failures)
}

// Worker makes one request after the other.
type Worker struct {
	load   *Load
	id     uint64
	client *clientv3.Client
	random *rand.Rand
	made   int
	// known are the revisions at which it saw keys last.
	known map[string]int64
	// Lies: it enters serializable reads as linearizable ones.
	Lies bool
}

// Worker is one more client, who asks when it is told to. Numbers set it apart in the history.
func (l *Load) Worker(number int, client *clientv3.Client) *Worker {
	return &Worker{load: l, id: uint64(probeClient + number), client: client,
		known: map[string]int64{}}
}

func (l *Load) work(ctx context.Context, client *clientv3.Client, free bool, workers int) {
	l.clients++
	w := &Worker{load: l, id: l.clients, client: client, known: map[string]int64{},
		random: rand.New(rand.NewSource(l.plan.Seed + int64(l.clients)))}
	pace := time.Second * time.Duration(workers) / time.Duration(l.plan.Rate)
	l.group.Go(func() {
		due := time.Now().Add(time.Duration(w.random.Int63n(int64(pace))))
		for ctx.Err() == nil {
			time.Sleep(time.Until(due))
			// Whoever was held up does not make up for it.
			due = maxTime(due.Add(pace), time.Now())
			l.entered(w.step(), free)
		}
	})
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// entered counts an answer, or an error of a client that could go anywhere.
func (l *Load) entered(err error, free bool) {
	switch {
	case err == nil:
		l.answers.Add(1)
	case free:
		l.mutex.Lock()
		l.failures[err.Error()]++
		l.mutex.Unlock()
	}
}

func (l *Load) acknowledged(call int64, probe bool) {
	l.mutex.Lock()
	l.acks = append(l.acks, ack{call, l.Recorder.Now(), probe})
	l.mutex.Unlock()
}

// context bounds one request.
func (l *Load) context() (context.Context, context.CancelFunc) {
	if l.plan.Patient {
		return context.WithTimeout(context.Background(), patience)
	}
	return context.WithTimeout(context.Background(), requestTimeout)
}

func (w *Worker) step() error {
	ctx, cancel := w.load.context()
	defer cancel()
	key := fmt.Sprintf("k/%d", w.random.Intn(keys))
	switch n := w.random.Intn(100); {
	case n < 40:
		return w.Put(ctx, key, w.Value())
	case n < 62:
		return w.guarded(ctx, key, n < 55)
	case n < 67:
		return w.remove(ctx, key)
	case n < 95:
		return w.Get(ctx, key, "", n >= 85)
	default:
		return w.Get(ctx, "k/", "k0", false)
	}
}

// value is one that nobody else writes.
func (w *Worker) Value() string {
	w.made++
	return fmt.Sprintf("%d-%d", w.id, w.made)
}

func (w *Worker) Put(ctx context.Context, key, value string, options ...clientv3.OpOption) error {
	call := w.load.Recorder.Now()
	r, err := w.client.Put(ctx, key, value, options...)
	asked := request{Put: &putRequest{key, short([]byte(value))}}
	revision := int64(0)
	if err == nil {
		revision = r.Header.Revision
		w.known[key] = revision
		w.load.acknowledged(call, w.id == probeClient)
	}
	w.load.Recorder.op(w.id, call, asked, revision, "put", err)
	return err
}

func (w *Worker) remove(ctx context.Context, key string) error {
	call := w.load.Recorder.Now()
	r, err := w.client.Delete(ctx, key)
	var reply deleteReply
	revision := int64(0)
	if err == nil {
		revision, reply.Delete.Deleted = r.Header.Revision, r.Deleted
		w.load.acknowledged(call, false)
	}
	w.load.Recorder.op(w.id, call, request{Delete: &span{Key: key}}, revision, reply, err)
	return err
}

func (w *Worker) Get(ctx context.Context, key, end string, serializable bool) error {
	var options []clientv3.OpOption
	if end != "" {
		options = append(options, clientv3.WithRange(end))
	}
	if serializable {
		options = append(options, clientv3.WithSerializable())
	}
	call := w.load.Recorder.Now()
	r, err := w.client.Get(ctx, key, options...)
	var reply any
	revision := int64(0)
	if err == nil {
		revision, reply = r.Header.Revision, rangeReplyOf(r)
		w.learn(key, r)
	}
	asked := request{Range: &rangeRequest{key, end, serializable && !w.Lies}}
	w.load.Recorder.op(w.id, call, asked, revision, reply, err)
	return err
}

func (w *Worker) learn(key string, r *clientv3.GetResponse) {
	w.known[key] = 0
	for _, kv := range r.Kvs {
		w.known[string(kv.Key)] = kv.ModRevision
	}
}

// guarded updates or deletes a key if nobody has done so since this client saw it, as Kubernetes
// does; otherwise it looks again.
func (w *Worker) guarded(ctx context.Context, key string, update bool) error {
	guard := w.known[key]
	then, asked := clientv3.OpDelete(key), request{Delete: &span{Key: key}}
	if update {
		value := w.Value()
		then, asked = clientv3.OpPut(key, value), request{Put: &putRequest{key, value}}
	}
	whole := request{Txn: &txnRequest{
		Compare: []compare{{key, "=", map[string]int64{"mod": guard}}},
		Success: []request{asked},
		Failure: []request{{Range: &rangeRequest{Key: key}}},
	}}
	call := w.load.Recorder.Now()
	r, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", guard)).
		Then(then).Else(clientv3.OpGet(key)).Commit()
	var reply txnReply
	revision := int64(0)
	if err == nil {
		revision, reply.Txn.Succeeded = r.Header.Revision, r.Succeeded
		reply.Txn.Replies = []any{w.replyOf(key, update, r)}
		w.load.acknowledged(call, false)
	}
	w.load.Recorder.op(w.id, call, whole, revision, reply, err)
	return err
}

func (w *Worker) replyOf(key string, update bool, r *clientv3.TxnResponse) any {
	switch {
	case !r.Succeeded:
		seen := (*clientv3.GetResponse)(r.Responses[0].GetResponseRange())
		w.learn(key, seen)
		return rangeReplyOf(seen)
	case update:
		w.known[key] = r.Header.Revision
		return "put"
	default:
		var reply deleteReply
		reply.Delete.Deleted = r.Responses[0].GetResponseDeleteRange().Deleted
		w.known[key] = 0
		return reply
	}
}

// probes puts at a fixed pace, whatever became of the puts before.
func (l *Load) probes(ctx context.Context) {
	ticker := time.NewTicker(time.Second / time.Duration(l.plan.Probes))
	defer ticker.Stop()
	for made := 0; ; made++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.group.Go(func() {
			w := l.Worker(0, l.probe.Load())
			ctx, cancel := l.context()
			defer cancel()
			key, value := fmt.Sprintf("k/probe%d", made%4), fmt.Sprintf("probe-%d", made)
			l.entered(w.Put(ctx, key, value), true)
		})
	}
}

// ReadsAt starts so many linearizable reads at one member at once, and returns what waits for
// their answers.
func (l *Load) ReadsAt(member *Member, count int) (wait func()) {
	client := l.cluster.Client(member.Endpoint())
	var group sync.WaitGroup
	for i := range count {
		group.Go(func() {
			w := l.Worker(1+i, client)
			ctx, cancel := context.WithTimeout(context.Background(), 2*requestTimeout)
			defer cancel()
			// Some ask for what changes all the time, others for all.
			if i%2 == 0 {
				_ = w.Get(ctx, fmt.Sprintf("k/probe%d", i/2%4), "", false)
			} else {
				_ = w.Get(ctx, "k/", "k0", false)
			}
		})
	}
	return func() {
		group.Wait()
		_ = client.Close()
	}
}
