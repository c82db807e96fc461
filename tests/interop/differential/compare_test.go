package differential

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kvorum/interop/harness"
)

// pair is a request with an answer to it.
type pair struct {
	request  proto.Message
	response proto.Message
}

// The comparison sees every change of every field of real answers, but for what it masks.
func TestComparisonNoticesEveryChange(t *testing.T) {
	reference := harness.Reference(t)
	d := newDriver(t, harness.Seed(t),
		newSide(t, "one", harness.Start(t, reference, harness.Options{Name: "one"})),
		newSide(t, "two", harness.Start(t, reference, harness.Options{Name: "two"})))
	var pairs []pair
	d.observe = func(one step, _, b answer) {
		if b.failure == "" {
			pairs = append(pairs, pair{one.request, proto.Clone(b.response)})
		}
	}
	d.play(1500, 0)
	killed, survived := 0, map[string]int{}
	for _, p := range pairs {
		for _, change := range changes(p.response.ProtoReflect(), "") {
			mutant := proto.Clone(p.response)
			change.apply(mutant.ProtoReflect())
			same := same(p.request, answer{response: mutant},
				answer{response: proto.Clone(p.response)})
			switch {
			case !same:
				killed++
			case !masked(p, change.path):
				t.Errorf("unnoticed: %s of the answer to %T %s", change.path, p.request,
					show(p.request))
			default:
				survived[change.path]++
			}
		}
	}
	t.Logf("%d changes noticed; masked: %v", killed, survived)
	if killed < 5_000 {
		t.Errorf("only %d changes tried", killed)
	}
}

// masked lists what the comparison does not look at, and nothing else.
func masked(p pair, path string) bool {
	switch {
	case strings.HasPrefix(path, "header."):
		return path != "header.revision"
	case path == "TTL":
		_, remaining := p.response.(*pb.LeaseTimeToLiveResponse)
		return remaining
	default:
		// Rows of a sort whose limit cut through ties.
		return sortedAndCut(p.request, p.response) && strings.Contains(path, "kvs.")
	}
}

func sortedAndCut(request, response proto.Message) bool {
	switch q := request.(type) {
	case *pb.RangeRequest:
		return q.SortTarget != pb.RangeRequest_KEY && response.(*pb.RangeResponse).More
	case *pb.TxnRequest:
		text := show(request)
		return strings.Contains(text, "sort_target") && strings.Contains(text, "limit")
	default:
		return false
	}
}

// change is one way to alter a message.
type change struct {
	path  string
	apply func(protoreflect.Message)
}

// changes lists, for every field that is set, another value of it, and for every list a missing
// and an extra item.
func changes(m protoreflect.Message, path string) (list []change) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := path + string(field.Name())
		switch {
		case field.IsList():
			list = append(list, change{name + "-", func(m protoreflect.Message) {
				items := m.Mutable(field).List()
				items.Truncate(items.Len() - 1)
			}})
			for i := range value.List().Len() {
				if field.Message() == nil {
					list = append(list, change{name + ".", func(m protoreflect.Message) {
						items := m.Mutable(field).List()
						items.Set(i, other(field, items.Get(i)))
					}})
					continue
				}
				for _, inner := range changes(value.List().Get(i).Message(), name+".") {
					list = append(list, change{inner.path, func(m protoreflect.Message) {
						inner.apply(m.Mutable(field).List().Get(i).Message())
					}})
				}
			}
		case field.Message() != nil:
			list = append(list, change{name + "-", func(m protoreflect.Message) { m.Clear(field) }})
			for _, inner := range changes(value.Message(), name+".") {
				list = append(list, change{inner.path, func(m protoreflect.Message) {
					inner.apply(m.Mutable(field).Message())
				}})
			}
		default:
			list = append(list, change{name, func(m protoreflect.Message) {
				m.Set(field, other(field, m.Get(field)))
			}})
		}
		return true
	})
	return list
}

func other(field protoreflect.FieldDescriptor, value protoreflect.Value) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!value.Bool())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte("x"), value.Bytes()...))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(value.String() + "x")
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(value.Int() + 1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(value.Uint() + 1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(value.Uint()) + 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(value.Enum() + 1)
	default:
		panic(fmt.Sprintf("no other value for %s", field.FullName()))
	}
}

// The comparison of watches sees a lost, repeated, altered, split or swapped event.
func TestWatchComparisonNoticesEveryChange(t *testing.T) {
	said := func() []*pb.WatchResponse {
		event := func(key string, revision int64) *pb.WatchResponse {
			r := &pb.WatchResponse{WatchId: 1, Header: &pb.ResponseHeader{Revision: revision}}
			r.Events = append(r.Events, putEvent(key, revision), putEvent(key+"2", revision))
			return r
		}
		return []*pb.WatchResponse{event("a", 2), event("b", 3), event("c", 4)}
	}
	type responses = []*pb.WatchResponse
	for name, change := range map[string]func(responses) responses{
		"lost response":     func(r responses) responses { return r[1:] },
		"lost last":         func(r responses) responses { return r[:2] },
		"repeated response": func(r responses) responses { return append(r, r[2]) },
		"swapped responses": func(r responses) responses {
			r[0], r[1] = r[1], r[0]
			return r
		},
		"lost event": func(r responses) responses {
			r[1].Events = r[1].Events[1:]
			return r
		},
		"swapped events": func(r responses) responses {
			r[1].Events[0], r[1].Events[1] = r[1].Events[1], r[1].Events[0]
			return r
		},
		"split revision": func(r responses) responses {
			first := proto.Clone(r[0]).(*pb.WatchResponse)
			first.Events, r[0].Events = first.Events[:1], r[0].Events[1:]
			return append(responses{first}, r...)
		},
		"other header": func(r responses) responses {
			r[0].Header.Revision = 3
			return r
		},
		"other watch": func(r responses) responses {
			r[2].WatchId = 2
			return r
		},
		"fragment": func(r responses) responses {
			r[2].Fragment = true
			return r
		},
		"previous value": func(r responses) responses {
			r[2].Events[1].PrevKv = r[0].Events[0].Kv
			return r
		},
	} {
		if firstDifference(change(said()), said(), nil) == "" ||
			firstDifference(said(), change(said()), nil) == "" {
			t.Errorf("unnoticed: %s", name)
		}
	}
	// Of history it makes no difference where fragments end, but what they hold does.
	whole := responses{{Header: &pb.ResponseHeader{Revision: 9}, WatchId: 1,
		Events: []*mvccpb.Event{putEvent("a", 2), putEvent("b", 3), putEvent("c", 3)}}}
	cut := func() responses {
		first, second := proto.Clone(whole[0]).(*pb.WatchResponse), proto.Clone(whole[0]).(*pb.WatchResponse)
		first.Events, first.Fragment, second.Events = first.Events[:2], true, second.Events[2:]
		return responses{first, second}
	}
	late := map[int64]int64{1: 3}
	if text := firstDifference(whole, cut(), late); text != "" {
		t.Errorf("fragments of history told apart: %s", text)
	}
	if firstDifference(whole, cut()[1:], late) == "" || firstDifference(whole, cut()[:1], late) == "" {
		t.Error("unnoticed: a lost fragment of history")
	}
	// Of history only a header from before the watch is one too many.
	early := said()
	early[0].Header.Revision = 1
	created := map[int64]int64{1: 2}
	if firstDifference(early, said(), created) == "" {
		t.Error("unnoticed: a header from before the watch")
	}
	if text := firstDifference(said(), said(), nil); text != "" {
		t.Errorf("no difference, but: %s", text)
	}
}

func putEvent(key string, revision int64) *mvccpb.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
}
