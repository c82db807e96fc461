package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"kvorum/interop/harness"
)

// answer is a response or an error.
type answer struct {
	response proto.Message
	failure  string
}

// side is one of the two servers, spoken to without clientv3 in between.
type side struct {
	t           testing.TB
	name        string
	server      *harness.Server
	kv          pb.KVClient
	lease       pb.LeaseClient
	maintenance pb.MaintenanceClient
	streams     [knownStreams]*watchStream
}

func newSide(t testing.TB, name string, server *harness.Server) *side {
	s := &side{t: t, name: name, server: server}
	s.connect()
	return s
}

func (s *side) connect() {
	conn := s.server.Conn(s.t)
	s.kv = pb.NewKVClient(conn)
	s.lease = pb.NewLeaseClient(conn)
	s.maintenance = pb.NewMaintenanceClient(conn)
	for i := range s.streams {
		s.streams[i] = newWatchStream(harness.OpenWatch(s.t, conn, i == 1))
	}
}

// restart kills the server and starts it on its data.
func (s *side) restart() {
	for _, stream := range s.streams {
		stream.stream.Close()
	}
	s.server.Kill()
	if err := s.server.Run(); err != nil {
		s.t.Fatal(err)
	}
	s.connect()
}

// do sends the request of a step.
func (s *side) do(one step) answer {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	var response proto.Message
	var err error
	if one.kind == streamedRange {
		response, err = s.rangeStream(ctx, one.request.(*pb.RangeRequest))
	} else {
		response, err = s.unary(ctx, one.request)
	}
	if err != nil {
		state := status.Convert(err)
		return answer{failure: fmt.Sprintf("%s: %s", state.Code(), state.Message())}
	}
	return answer{response: response}
}

func (s *side) unary(ctx context.Context, request proto.Message) (proto.Message, error) {
	switch r := request.(type) {
	case *pb.RangeRequest:
		return s.kv.Range(ctx, r)
	case *pb.PutRequest:
		return s.kv.Put(ctx, r)
	case *pb.DeleteRangeRequest:
		return s.kv.DeleteRange(ctx, r)
	case *pb.TxnRequest:
		return s.kv.Txn(ctx, r)
	case *pb.CompactionRequest:
		return s.kv.Compact(ctx, r)
	case *pb.LeaseGrantRequest:
		return s.lease.LeaseGrant(ctx, r)
	case *pb.LeaseRevokeRequest:
		return s.lease.LeaseRevoke(ctx, r)
	case *pb.LeaseTimeToLiveRequest:
		return s.lease.LeaseTimeToLive(ctx, r)
	case *pb.LeaseLeasesRequest:
		return s.lease.LeaseLeases(ctx, r)
	case *pb.LeaseKeepAliveRequest:
		return s.keepAlive(ctx, r)
	case *pb.HashKVRequest:
		return s.maintenance.HashKV(ctx, r)
	case *pb.AlarmRequest:
		return s.maintenance.Alarm(ctx, r)
	default:
		return nil, fmt.Errorf("no such request: %T", request)
	}
}

func (s *side) keepAlive(
	ctx context.Context, r *pb.LeaseKeepAliveRequest,
) (proto.Message, error) {
	stream, err := s.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(r); err != nil {
		return nil, err
	}
	return stream.Recv()
}

// rangeStream joins the pieces: their borders are the server's choice.
func (s *side) rangeStream(ctx context.Context, r *pb.RangeRequest) (proto.Message, error) {
	stream, err := s.kv.RangeStream(ctx, r)
	if err != nil {
		return nil, err
	}
	whole := &pb.RangeResponse{}
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return whole, nil
		}
		if err != nil {
			return nil, err
		}
		proto.Merge(whole, piece.RangeResponse)
	}
}
