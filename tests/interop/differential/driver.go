package differential

import (
	"fmt"
	"math/rand"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// driver plays a sequence on both sides.
type driver struct {
	t         testing.TB
	seed      int64
	generator *generator
	subject   *side
	reference *side
	played    int
	counts    map[string]int
	trail     []string
	// observe, set by the test of the comparison, sees every pair of answers.
	observe func(one step, a, b answer)
}

const trailLength = 15

func newDriver(t testing.TB, seed int64, subject, reference *side) *driver {
	return &driver{
		t: t, seed: seed, subject: subject, reference: reference, counts: map[string]int{},
		generator: &generator{random: rand.New(rand.NewSource(seed)), revision: 1, compacted: -1},
	}
}

// play runs the sequence, with a restart of both sides after every so many steps.
func (d *driver) play(steps, restartEvery int) {
	for restarts := 0; d.played < steps; {
		one := d.generator.next()
		d.played++
		// Not under an alarm: the check of the watches before it puts.
		due := restartEvery > 0 && d.played/restartEvery > restarts
		if due && !d.generator.alarmed {
			one = step{kind: restart}
			restarts++
		}
		d.step(one)
	}
	d.step(step{request: d.generator.alarm(pb.AlarmRequest_DEACTIVATE)})
	d.checkWatches()
	d.compareHistory()
}

func (d *driver) step(one step) {
	d.remember(one)
	switch one.kind {
	case unary, streamedRange:
		d.compare(one)
	case watchCreate:
		d.createWatch(one)
	case watchCancel:
		d.cancelWatch(one)
	case watchCheck:
		d.checkWatches()
	case restart:
		d.checkWatches()
		d.subject.restart()
		d.reference.restart()
	}
}

// both sends one request to both sides at the same time.
func (d *driver) both(one step) (answer, answer) {
	result := make(chan answer, 1)
	go func() { result <- d.subject.do(one) }()
	b := d.reference.do(one)
	a := <-result
	if d.observe != nil {
		d.observe(one, a, b)
	}
	return a, b
}

func (d *driver) compare(one step) {
	a, b := d.both(one)
	name := fmt.Sprintf("%T", one.request)
	if b.failure != "" {
		name = b.failure
	}
	d.counts[name]++
	if !same(one.request, a, b) {
		d.fail(fmt.Sprintf("under test: %s\netcd:       %s", a, b))
	}
	d.follow(one, b)
}

// follow keeps the generator's revisions those of the reference.
func (d *driver) follow(one step, b answer) {
	g := d.generator
	if b.failure != "" {
		return
	}
	type headed interface{ GetHeader() *pb.ResponseHeader }
	if r, ok := b.response.(headed); ok && r.GetHeader() != nil {
		g.revision = r.GetHeader().Revision
	}
	if r, ok := one.request.(*pb.CompactionRequest); ok {
		g.compacted = r.Revision
		g.unsettled = !r.Physical
	}
}

func (d *driver) createWatch(one step) {
	request := one.request.(*pb.WatchCreateRequest)
	if !d.settleStream(one.stream) {
		return
	}
	a := d.subject.streams[one.stream].create(request)
	b := d.reference.streams[one.stream].create(request)
	d.counts["watch"]++
	mask(request, a)
	mask(request, b)
	if !proto.Equal(a, b) {
		d.fail(fmt.Sprintf("under test: %s\netcd:       %s", show(a), show(b)))
	}
	if !b.Canceled {
		for _, s := range []*side{d.subject, d.reference} {
			w := s.streams[one.stream]
			w.start = max(w.start, request.StartRevision)
		}
	}
	// History is said at its own pace: waiting for it here makes every later response live, and
	// live responses must match one to one.
	d.settleStream(one.stream)
}

func (d *driver) cancelWatch(one step) {
	if !d.settleStream(one.stream) {
		return
	}
	a, b := d.subject.streams[one.stream], d.reference.streams[one.stream]
	if !b.active[one.watch] {
		// Neither side may say anything: the next check would show it.
		a.stream.Cancel(one.watch)
		b.stream.Cancel(one.watch)
		return
	}
	said, expected := a.cancel(one.watch), b.cancel(one.watch)
	mask(nil, said)
	mask(nil, expected)
	if !proto.Equal(said, expected) {
		d.fail(fmt.Sprintf("under test: %s\netcd:       %s", show(said), show(expected)))
	}
}

func (d *driver) checkWatches() {
	for i := range knownStreams {
		d.settleStream(i)
	}
}

// settleStream compares what both streams said up to now. While a watch waits for its start the
// stream cannot tell how far it is, and the check is put off.
func (d *driver) settleStream(i int) bool {
	a, b := d.subject.streams[i], d.reference.streams[i]
	revision := d.generator.revision
	if b.start > revision {
		return false
	}
	d.anchor(i)
	// A revision of its own tells the answers to this check from late ones to the check before.
	d.compare(step{request: &pb.PutRequest{Key: []byte("anchor")}})
	revision = d.generator.revision
	said, expected := a.settle(revision), b.settle(revision)
	d.counts["watch response"] += len(expected)
	if text := firstDifference(said, expected, b.created); text != "" {
		d.fail(fmt.Sprintf("stream %d, at revision %d, %s", i, revision, text))
	}
	return true
}

// anchorID is a watch that stays on every stream: a stream without watches answers nothing.
const anchorID = 1000

func (d *driver) anchor(i int) {
	for _, s := range []*side{d.subject, d.reference} {
		w := s.streams[i]
		if w.active[anchorID] {
			continue
		}
		r := w.create(&pb.WatchCreateRequest{Key: []byte("anchor"), WatchId: anchorID})
		if r.WatchId != anchorID || r.Canceled {
			d.fail(fmt.Sprintf("%s: anchor refused: %s", s.name, show(r)))
		}
	}
}

// compareHistory reads everything that is left of the history on both sides.
func (d *driver) compareHistory() {
	g := d.generator
	every := []byte{0}
	d.compare(step{request: &pb.CompactionRequest{Revision: g.compacted + 1, Physical: true}})
	first := max(g.compacted, 1)
	stride := max((g.revision-first)/200, 1)
	for revision := first; revision <= g.revision; revision += stride {
		d.compare(step{request: &pb.RangeRequest{Key: every, RangeEnd: every, Revision: revision}})
		d.compare(step{request: &pb.HashKVRequest{Revision: revision}})
	}
	for id := int64(1); id <= leases; id++ {
		d.compare(step{request: &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}})
	}
	d.createWatch(step{stream: 0, request: &pb.WatchCreateRequest{Key: every, RangeEnd: every,
		StartRevision: first, PrevKv: true}})
}

func (d *driver) remember(one step) {
	text := fmt.Sprintf("%d: kind %d", d.played, one.kind)
	if one.request != nil {
		text = fmt.Sprintf("%d: %T %s", d.played, one.request, show(one.request))
	}
	if one.kind != unary {
		text += fmt.Sprintf(" (kind %d, stream %d, watch %d)", one.kind, one.stream, one.watch)
	}
	d.trail = append(d.trail, text)
	if len(d.trail) > trailLength {
		d.trail = d.trail[1:]
	}
}

func (d *driver) fail(text string) {
	d.t.Helper()
	message := fmt.Sprintf("SEED=%d: the answers to step %d differ\n%s\nthe steps before:\n",
		d.seed, d.played, text)
	for _, line := range d.trail {
		message += "  " + line + "\n"
	}
	d.t.Fatal(message)
}
