// Package differential sends one random sequence of requests to two servers and compares every
// answer: the server under test must be indistinguishable from etcd.
//
//   - The sequence depends on the seed and on the reference's answers only, so a seed replays.
//   - What legitimately differs is masked: cluster and member ids, the term, remaining seconds,
//     and the order of what etcd leaves unordered (ties of a sort, keys of a lease).
//   - Requests are sent one at a time; concurrency is the business of the other suites.
//   - Expiry of leases is absent: it happens by the clock, not by the sequence.
package differential

import (
	"fmt"
	"math/rand"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// kind is what a step does; most kinds are one request.
type kind int

const (
	unary kind = iota
	streamedRange
	watchCreate
	watchCancel
	watchCheck
	restart
)

// step is one move of the sequence.
type step struct {
	kind    kind
	request proto.Message
	// stream and watch name what the watch steps act on.
	stream int
	watch  int64
}

// generator makes steps. It knows the revisions, to aim at their edges, and nothing else.
type generator struct {
	random    *rand.Rand
	revision  int64
	compacted int64
	values    int
	// unsettled: a compaction may still run in the background, and a hash asked for now may be of
	// before or after it.
	unsettled bool
	alarmed   bool
}

const (
	leases       = 12
	knownStreams = 3
	// futureStream carries only watches that may start in the future: while one waits, its stream
	// answers no progress request, so its events are checked later.
	futureStream = knownStreams - 1
)

func (g *generator) chance(percent int) bool { return g.random.Intn(100) < percent }

func pick[T any](g *generator, list ...T) T { return list[g.random.Intn(len(list))] }

// next is the next step. The alarm of a step before is taken back soon: under it most requests
// are refused alike.
func (g *generator) next() step {
	if g.alarmed && g.chance(20) {
		g.alarmed = false
		return step{request: g.alarm(pb.AlarmRequest_DEACTIVATE)}
	}
	n := g.random.Intn(1000)
	if g.alarmed && n >= 940 && n < 995 {
		// Watches are checked with a put, which is refused now.
		n = 0
	}
	switch {
	case n < 230:
		return step{request: g.rangeRequest()}
	case n < 260:
		r := g.rangeRequest()
		if r.SortOrder == pb.RangeRequest_NONE {
			// What etcd streams of a target without an order is not worth having.
			r.SortTarget = pb.RangeRequest_KEY
		}
		return step{kind: streamedRange, request: r}
	case n < 500:
		return step{request: g.put()}
	case n < 570:
		return step{request: g.deleteRange()}
	case n < 800:
		return step{request: g.txn(2)}
	case n < 880:
		return step{request: g.lease()}
	case n < 900:
		return step{request: g.compact()}
	case n < 940:
		if g.unsettled {
			return step{request: g.put()}
		}
		return step{request: &pb.HashKVRequest{Revision: g.anyRevision()}}
	case n < 960:
		return g.watch()
	case n < 970:
		return step{kind: watchCancel, stream: g.random.Intn(knownStreams),
			watch: int64(g.random.Intn(12) - 1)}
	case n < 995:
		return step{kind: watchCheck}
	case n < 998:
		g.alarmed = true
		return step{request: g.alarm(pb.AlarmRequest_ACTIVATE)}
	default:
		return step{request: g.alarm(pb.AlarmRequest_GET)}
	}
}

func (g *generator) key() []byte {
	if g.chance(1) {
		return nil
	}
	return []byte(pick(g, "a", "b", "c", "k", "k/0", "k/1", "k/2", "k/3", "k/4", "k/5", "k/6",
		"k/7", "k/8", "k/9", "l", "z", "\x00", "\xff", "\xff\xff", "b\x00", "b\xff"))
}

// rangeEnd makes single keys, prefixes, ranges, open ends and empty ranges.
func (g *generator) rangeEnd(key []byte) []byte {
	switch n := g.random.Intn(10); {
	case n < 4 || len(key) == 0:
		return nil
	case n < 6:
		end := append([]byte{}, key...)
		end[len(end)-1]++
		return end
	case n < 7:
		return []byte{0}
	default:
		return g.key()
	}
}

func (g *generator) value() []byte {
	g.values++
	switch n := g.random.Intn(1000); {
	case n < 200:
		return []byte(pick(g, "", "same", "other"))
	case n < 990:
		return []byte(fmt.Sprintf("value %d", g.values))
	case n < 999:
		return make([]byte, g.random.Intn(100_000))
	default:
		return make([]byte, 1_500_000+g.random.Intn(150_000))
	}
}

// anyRevision aims at now, at history, and at the edges of both.
func (g *generator) anyRevision() int64 {
	switch n := g.random.Intn(10); {
	case n < 4:
		return 0
	case n < 5:
		return g.compacted + int64(g.random.Intn(5)) - 2
	case n < 6:
		return g.revision + int64(g.random.Intn(5)) - 2
	default:
		return g.compacted + g.random.Int63n(max(g.revision-g.compacted, 0)+2)
	}
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	key := g.key()
	r := &pb.RangeRequest{
		Key: key, RangeEnd: g.rangeEnd(key), Revision: g.anyRevision(),
		Serializable: g.chance(20), KeysOnly: g.chance(15), CountOnly: g.chance(10),
	}
	if g.chance(30) {
		r.Limit = int64(g.random.Intn(12) - 1)
	}
	if g.chance(30) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.random.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.random.Intn(5))
	}
	if g.chance(1) {
		r.SortOrder = pb.RangeRequest_SortOrder(pick(g, -1, 3, 9))
		r.SortTarget = pb.RangeRequest_SortTarget(pick(g, 0, 5))
	}
	for _, filter := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision,
		&r.MaxCreateRevision} {
		if g.chance(6) {
			*filter = g.anyRevision()
		}
	}
	return r
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	if g.chance(25) {
		r.Lease = g.leaseID()
	}
	if g.chance(8) {
		r.IgnoreValue = true
		if g.chance(80) {
			r.Value = nil
		}
	}
	if g.chance(8) {
		r.IgnoreLease = true
		if g.chance(80) {
			r.Lease = 0
		}
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	key := g.key()
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: g.rangeEnd(key), PrevKv: g.chance(40)}
}

// leaseID is mostly one that may exist; ids are the sequence's choice on both servers.
func (g *generator) leaseID() int64 { return int64(1 + g.random.Intn(leases)) }

func (g *generator) lease() proto.Message {
	id := g.leaseID()
	switch n := g.random.Intn(20); {
	case n < 8:
		// Far from expiring within a run.
		ttl := pick[int64](g, 5_000, 70_000, 900_000, 9_000_000_000, 9_000_000_001)
		return &pb.LeaseGrantRequest{ID: id, TTL: ttl}
	case n < 12:
		return &pb.LeaseRevokeRequest{ID: id}
	case n < 14:
		return &pb.LeaseKeepAliveRequest{ID: id}
	case n < 18:
		return &pb.LeaseTimeToLiveRequest{ID: id, Keys: g.chance(70)}
	default:
		return &pb.LeaseLeasesRequest{}
	}
}

func (g *generator) compact() *pb.CompactionRequest {
	r := &pb.CompactionRequest{Physical: g.chance(70)}
	if g.chance(30) {
		r.Revision = g.anyRevision()
	} else {
		// Near the compact revision, so that history stays to be read.
		r.Revision = g.compacted + g.random.Int63n(max((g.revision-g.compacted)/2, 0)+1)
	}
	return r
}

func (g *generator) alarm(action pb.AlarmRequest_AlarmAction) *pb.AlarmRequest {
	if action == pb.AlarmRequest_DEACTIVATE {
		return &pb.AlarmRequest{Action: action, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}
	}
	r := &pb.AlarmRequest{Action: action}
	if action == pb.AlarmRequest_ACTIVATE {
		r.MemberID, r.Alarm = 5, pb.AlarmType_NOSPACE
	}
	return r
}

func (g *generator) watch() step {
	key := g.key()
	r := &pb.WatchCreateRequest{
		Key: key, RangeEnd: g.rangeEnd(key), PrevKv: g.chance(50), Fragment: g.chance(20),
		ProgressNotify: g.chance(30),
	}
	stream := g.random.Intn(knownStreams)
	switch {
	case stream == futureStream:
		r.StartRevision = g.revision + int64(g.random.Intn(30))
	case g.chance(50):
		// A start beyond now would silence the stream.
		r.StartRevision = min(g.anyRevision(), g.revision)
	}
	if g.chance(20) {
		r.WatchId = int64(g.random.Intn(12))
	}
	if g.chance(20) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.random.Intn(2)))
	}
	return step{kind: watchCreate, request: r, stream: stream}
}
