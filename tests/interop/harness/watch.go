package harness

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// WatchStream is one bare Watch stream: what the server sends, in order, without clientv3's
// resuming, reassembling and hiding.
type WatchStream struct {
	// Responses is closed when the stream ends; Err then says why.
	Responses chan *pb.WatchResponse
	Err       error

	t      testing.TB
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
}

// watchBuffer is how many responses wait for the test before gRPC's flow control holds the server.
const watchBuffer = 4096

// OpenWatch opens a stream. With requireLeader the server must end it when the leader is lost.
func OpenWatch(t testing.TB, conn grpc.ClientConnInterface, requireLeader bool) *WatchStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if requireLeader {
		ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true")
	}
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &WatchStream{
		Responses: make(chan *pb.WatchResponse, watchBuffer), t: t, stream: stream, cancel: cancel,
	}
	go func() {
		defer close(w.Responses)
		for {
			response, err := stream.Recv()
			if err != nil {
				w.Err = err
				return
			}
			select {
			case w.Responses <- response:
			case <-ctx.Done():
				w.Err = ctx.Err()
				return
			}
		}
	}()
	t.Cleanup(cancel)
	return w
}

// Close ends the stream.
func (w *WatchStream) Close() { w.cancel() }

// Create asks for a watch; its answer arrives on Responses.
func (w *WatchStream) Create(request *pb.WatchCreateRequest) {
	w.t.Helper()
	w.send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
}

// Cancel asks for the end of one watch.
func (w *WatchStream) Cancel(id int64) {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

// Progress asks how far the stream is.
func (w *WatchStream) Progress() {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (w *WatchStream) send(request *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(request); err != nil {
		w.t.Fatal(err)
	}
}

// Next is the next response; there must be one within the limit.
func (w *WatchStream) Next(limit time.Duration) *pb.WatchResponse {
	w.t.Helper()
	select {
	case response, open := <-w.Responses:
		if !open {
			w.t.Fatalf("watch stream ended: %v", w.Err)
		}
		return response
	case <-time.After(limit):
		w.t.Fatalf("no watch response within %v", limit)
		return nil
	}
}

// Settle polls for progress until the server says that everything up to its revision was sent,
// and returns what was sent before, without the answers to the polls.
//
// An answer may be late, and be one to a poll of an earlier call: the revision must be one that
// did not exist then, or what was created since may be missed.
//
// A watch ended by compaction is cancelled on the way, as clientv3 does: until then etcd keeps it
// among the watches of the stream, and as one that is behind, and answers no poll.
func (w *WatchStream) Settle(revision int64, limit time.Duration) []*pb.WatchResponse {
	w.t.Helper()
	var seen []*pb.WatchResponse
	deadline := time.After(limit)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	w.Progress()
	for {
		select {
		case response, open := <-w.Responses:
			switch {
			case !open:
				w.t.Fatalf("watch stream ended: %v", w.Err)
			case !IsProgress(response):
				seen = append(seen, response)
				if response.CompactRevision != 0 {
					w.Cancel(response.WatchId)
				}
			case response.WatchId == -1 && response.Header.Revision >= revision:
				return seen
			}
		case <-poll.C:
			w.Progress()
		case <-deadline:
			w.t.Fatalf("no progress to revision %d within %v; seen: %v", revision, limit, seen)
		}
	}
}

// Hear is the next response of a clientv3 watch; there must be one within Patience.
func Hear(t testing.TB, watch clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case response, open := <-watch:
		if !open {
			t.Fatal("the watch has ended")
		}
		return response
	case <-time.After(Patience):
		t.Fatalf("no watch response within %v", Patience)
		return clientv3.WatchResponse{}
	}
}

// IsProgress says whether a response only tells how far the watch is.
func IsProgress(r *pb.WatchResponse) bool {
	return len(r.Events) == 0 && !r.Created && !r.Canceled && r.CompactRevision == 0
}

// ShowRawWatch writes a response as it was on the wire.
func ShowRawWatch(r *pb.WatchResponse) string {
	text := fmt.Sprintf("id %d, %s", r.WatchId, ShowHeader(r.Header))
	if r.Created {
		text += ", created"
	}
	if r.Canceled {
		text += ", canceled"
	}
	if r.CancelReason != "" {
		text += fmt.Sprintf(" %q", r.CancelReason)
	}
	if r.CompactRevision != 0 {
		text += fmt.Sprintf(", compacted %d", r.CompactRevision)
	}
	if r.Fragment {
		text += ", fragment"
	}
	if IsProgress(r) {
		text += ", progress"
	}
	var events strings.Builder
	for _, event := range r.Events {
		events.WriteString("\n" + ShowEvent((*clientv3.Event)(event)))
	}
	return text + events.String()
}
