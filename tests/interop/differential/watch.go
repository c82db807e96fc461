package differential

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"kvorum/interop/harness"
)

const settleTimeout = 30 * time.Second

// watchStream is one Watch stream of one side and what it said since the last check.
type watchStream struct {
	stream *harness.WatchStream
	// start is the latest revision a watch of this stream waits for.
	start int64
	// active are the watches that were created and not ended, created where the store was then.
	active  map[int64]bool
	created map[int64]int64
	// compacted are those ended by compaction whose cancelling, sent by Settle, etcd still answers;
	// a server that forgot them at once answers nothing.
	compacted map[int64]bool
	seen      []*pb.WatchResponse
}

func newWatchStream(stream *harness.WatchStream) *watchStream {
	return &watchStream{stream: stream, active: map[int64]bool{}, created: map[int64]int64{},
		compacted: map[int64]bool{}}
}

// create sends the request and takes everything up to the answer.
func (w *watchStream) create(request *pb.WatchCreateRequest) *pb.WatchResponse {
	// The client library would share the message between both sides' streams.
	w.stream.Create(proto.Clone(request).(*pb.WatchCreateRequest))
	response := w.until(func(r *pb.WatchResponse) bool { return r.Created })
	if !response.Canceled {
		w.active[response.WatchId] = true
		w.created[response.WatchId] = response.Header.Revision
	}
	return response
}

// cancel ends an active watch and takes everything up to the answer.
func (w *watchStream) cancel(id int64) *pb.WatchResponse {
	w.stream.Cancel(id)
	delete(w.active, id)
	return w.until(func(r *pb.WatchResponse) bool { return r.Canceled && r.WatchId == id })
}

func (w *watchStream) until(wanted func(*pb.WatchResponse) bool) *pb.WatchResponse {
	for {
		response := w.stream.Next(settleTimeout)
		if wanted(response) {
			return response
		}
		w.seen = append(w.seen, response)
	}
}

// settle waits until everything up to the revision was said, and takes it.
func (w *watchStream) settle(revision int64) (said []*pb.WatchResponse) {
	for _, r := range append(w.seen, w.stream.Settle(revision, settleTimeout)...) {
		switch {
		case r.CompactRevision != 0:
			w.compacted[r.WatchId] = true
			delete(w.active, r.WatchId)
		case r.Canceled && w.compacted[r.WatchId]:
			delete(w.compacted, r.WatchId)
			continue
		}
		said = append(said, r)
	}
	w.seen = nil
	return said
}

// lines writes what a stream said as one line per watch and revision, so that two servers may
// batch history differently but not split, merge or reorder what belongs together.
//
// What is told of history, up to where the store was when the watch was created, comes under the
// revision of the moment: at least that one. Later events come under their own. Large responses
// are cut into fragments; which of history's are large depends on the batches, so those are joined.
func lines(responses []*pb.WatchResponse, created map[int64]int64) map[int64][]string {
	out := map[int64][]string{}
	begun := map[int64][]*mvccpb.Event{}
	for _, r := range responses {
		if harness.IsProgress(r) {
			continue
		}
		maskHeader(r.Header)
		id := r.WatchId
		if ofHistory(r, created[id]) {
			events := append(begun[id], r.Events...)
			if delete(begun, id); r.Fragment {
				begun[id] = events
				continue
			}
			r = &pb.WatchResponse{Header: r.Header, WatchId: id, Events: events}
		}
		if len(r.Events) == 0 {
			out[id] = append(out[id], show(r))
			continue
		}
		for begin := 0; begin < len(r.Events); {
			revision := r.Events[begin].Kv.ModRevision
			end := begin
			for end < len(r.Events) && r.Events[end].Kv.ModRevision == revision {
				end++
			}
			group := &pb.WatchResponse{Events: r.Events[begin:end], Fragment: r.Fragment,
				CompactRevision: r.CompactRevision, Canceled: r.Canceled}
			header := show(r.Header)
			if revision <= created[id] && r.Header.GetRevision() >= created[id] {
				header = "of history"
			}
			out[id] = append(out[id], fmt.Sprintf("revision %d, header %s: %s", revision,
				header, show(group)))
			begin = end
		}
	}
	return out
}

// ofHistory says whether all a response tells lies before its watch.
func ofHistory(r *pb.WatchResponse, created int64) bool {
	last := len(r.Events) - 1
	return last >= 0 && r.Events[last].Kv.ModRevision <= created && r.Header.GetRevision() >= created
}

// firstDifference compares what two streams said, watch by watch.
func firstDifference(a, b []*pb.WatchResponse, created map[int64]int64) string {
	x, y := lines(a, created), lines(b, created)
	for id := range y {
		if _, ok := x[id]; !ok {
			x[id] = nil
		}
	}
	for id, left := range x {
		right := y[id]
		for i := range max(len(left), len(right)) {
			l, r := "nothing", "nothing"
			if i < len(left) {
				l = left[i]
			}
			if i < len(right) {
				r = right[i]
			}
			if l != r {
				return fmt.Sprintf("watch %d, item %d of %d and %d\n"+
					"  under test: %s\n  etcd:       %s", id, i, len(left), len(right), l, r)
			}
		}
	}
	return ""
}
