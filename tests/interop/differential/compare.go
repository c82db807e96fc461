package differential

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// remainingSlack is by how many seconds two remaining times may differ.
const remainingSlack = 60

// same says whether two answers to one request are the same where they must be. It masks both.
func same(request proto.Message, a, b answer) bool {
	if a.failure != "" || b.failure != "" {
		return a.failure == b.failure
	}
	maskTimes(a.response, b.response)
	mask(request, a.response)
	mask(request, b.response)
	return proto.Equal(a.response, b.response)
}

// mask replaces what differs by nature with what it must be like: ids become 1, not nothing.
func mask(request, response proto.Message) {
	switch r := response.(type) {
	case *pb.RangeResponse:
		maskHeader(r.Header)
		canonical(request.(*pb.RangeRequest), r)
	case *pb.PutResponse:
		maskHeader(r.Header)
	case *pb.DeleteRangeResponse:
		maskHeader(r.Header)
	case *pb.TxnResponse:
		maskHeader(r.Header)
		maskTxn(request.(*pb.TxnRequest), r)
	case *pb.CompactionResponse:
		maskHeader(r.Header)
	case *pb.LeaseGrantResponse:
		maskHeader(r.Header)
	case *pb.LeaseRevokeResponse:
		maskHeader(r.Header)
	case *pb.LeaseKeepAliveResponse:
		maskHeader(r.Header)
	case *pb.LeaseTimeToLiveResponse:
		maskHeader(r.Header)
		slices.SortFunc(r.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		maskHeader(r.Header)
		slices.SortFunc(r.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	case *pb.HashKVResponse:
		maskHeader(r.Header)
	case *pb.AlarmResponse:
		maskHeader(r.Header)
	case *pb.WatchResponse:
		maskHeader(r.Header)
	}
}

func maskHeader(h *pb.ResponseHeader) {
	if h == nil {
		return
	}
	h.ClusterId = min(h.ClusterId, 1)
	h.MemberId = min(h.MemberId, 1)
	h.RaftTerm = min(h.RaftTerm, 1)
}

// maskTimes makes two remaining times equal when they are near each other.
func maskTimes(a, b proto.Message) {
	x, ok := a.(*pb.LeaseTimeToLiveResponse)
	if !ok {
		return
	}
	y, ok := b.(*pb.LeaseTimeToLiveResponse)
	if ok && x.TTL > 0 && y.TTL > 0 && max(x.TTL-y.TTL, y.TTL-x.TTL) < remainingSlack {
		x.TTL = y.TTL
	}
}

// maskTxn follows the branch that was taken into nested answers.
func maskTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	branch := request.Failure
	if response.Succeeded {
		branch = request.Success
	}
	if len(branch) != len(response.Responses) {
		return
	}
	for i, op := range branch {
		switch r := response.Responses[i].Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			if q := op.GetRequestRange(); q != nil {
				canonical(q, r.ResponseRange)
			}
		case *pb.ResponseOp_ResponseTxn:
			if q := op.GetRequestTxn(); q != nil {
				maskTxn(q, r.ResponseTxn)
			}
		}
	}
}

// canonical puts rows that tie in a sort into key order. Where a limit cuts through ties, which
// of them came is etcd's accident: those are reduced to what they tie in.
func canonical(q *pb.RangeRequest, r *pb.RangeResponse) {
	target := q.SortTarget
	if target == pb.RangeRequest_KEY || len(r.Kvs) == 0 {
		return
	}
	hidden := target == pb.RangeRequest_VALUE && q.KeysOnly
	tied := func(a, b *mvccpb.KeyValue) bool {
		return hidden || sortKey(target, a) == sortKey(target, b)
	}
	for begin := 0; begin < len(r.Kvs); {
		end := begin + 1
		for end < len(r.Kvs) && tied(r.Kvs[begin], r.Kvs[end]) {
			end++
		}
		group := r.Kvs[begin:end]
		if end == len(r.Kvs) && r.More {
			for i, kv := range group {
				group[i] = reduced(target, kv)
			}
		}
		slices.SortStableFunc(group, func(a, b *mvccpb.KeyValue) int {
			return bytes.Compare(a.Key, b.Key)
		})
		begin = end
	}
}

func sortKey(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) string {
	switch target {
	case pb.RangeRequest_VERSION:
		return fmt.Sprint(kv.Version)
	case pb.RangeRequest_CREATE:
		return fmt.Sprint(kv.CreateRevision)
	case pb.RangeRequest_MOD:
		return fmt.Sprint(kv.ModRevision)
	case pb.RangeRequest_VALUE:
		return string(kv.Value)
	default:
		return string(kv.Key)
	}
}

func reduced(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	switch target {
	case pb.RangeRequest_VERSION:
		return &mvccpb.KeyValue{Version: kv.Version}
	case pb.RangeRequest_CREATE:
		return &mvccpb.KeyValue{CreateRevision: kv.CreateRevision}
	case pb.RangeRequest_MOD:
		return &mvccpb.KeyValue{ModRevision: kv.ModRevision}
	default:
		return &mvccpb.KeyValue{Value: kv.Value}
	}
}

var spaces = regexp.MustCompile(` {2,}`)

const shown = 2000

// show writes a message; prototext varies its spaces on purpose.
func show(m proto.Message) string {
	if m == nil {
		return "nothing"
	}
	text := spaces.ReplaceAllString(prototext.MarshalOptions{}.Format(m), " ")
	if len(text) > shown {
		text = text[:shown] + fmt.Sprintf(" … %d more", len(text)-shown)
	}
	return strings.TrimSpace(text)
}

func (a answer) String() string {
	if a.failure != "" {
		return "error " + a.failure
	}
	return show(a.response)
}
