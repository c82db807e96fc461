package harness

import (
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"
)

const valueShown = 40

// ShowKV writes a row as key=value with create, mod, version and, if any, lease.
func ShowKV(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "-"
	}
	text := fmt.Sprintf("%s=%s c%d m%d v%d", ShowBytes(kv.Key), ShowBytes(kv.Value),
		kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		text += fmt.Sprintf(" lease %x", kv.Lease)
	}
	return text
}

// ShowBytes quotes what is not plain and shortens what is long.
func ShowBytes(b []byte) string {
	if len(b) > valueShown {
		return fmt.Sprintf("<%d bytes>", len(b))
	}
	quoted := fmt.Sprintf("%q", b)
	if plain := quoted[1 : len(quoted)-1]; plain == string(b) && plain != "" {
		return plain
	}
	return quoted
}

// ShowHeader writes the revision; ids and the term differ between runs and are only checked
// for presence.
func ShowHeader(h *pb.ResponseHeader) string {
	if h == nil {
		return "no header"
	}
	text := fmt.Sprintf("rev %d", h.Revision)
	if h.ClusterId == 0 || h.MemberId == 0 || h.RaftTerm == 0 {
		text += " bare"
	}
	return text
}

func showKVs(kvs []*mvccpb.KeyValue) string {
	var out strings.Builder
	for _, kv := range kvs {
		out.WriteString("\n" + ShowKV(kv))
	}
	return out.String()
}

// ShowGet writes a range response or its error.
func ShowGet(r *clientv3.GetResponse, err error) string {
	if err != nil {
		return ShowError(err)
	}
	text := fmt.Sprintf("%s count %d", ShowHeader(r.Header), r.Count)
	if r.More {
		text += " more"
	}
	return text + showKVs(r.Kvs)
}

// ShowPut writes a put response or its error.
func ShowPut(r *clientv3.PutResponse, err error) string {
	if err != nil {
		return ShowError(err)
	}
	text := ShowHeader(r.Header)
	if r.PrevKv != nil {
		text += ", was " + ShowKV(r.PrevKv)
	}
	return text
}

// ShowDelete writes a delete response or its error.
func ShowDelete(r *clientv3.DeleteResponse, err error) string {
	if err != nil {
		return ShowError(err)
	}
	text := fmt.Sprintf("%s deleted %d", ShowHeader(r.Header), r.Deleted)
	return text + showKVs(r.PrevKvs)
}

// ShowTxn writes a txn response with everything nested in it, or its error.
func ShowTxn(r *clientv3.TxnResponse, err error) string {
	if err != nil {
		return ShowError(err)
	}
	text := fmt.Sprintf("%s succeeded %v", ShowHeader(r.Header), r.Succeeded)
	for _, one := range r.Responses {
		text += "\n" + strings.ReplaceAll(showResponseOp(one), "\n", "\n    ")
	}
	return text
}

func showResponseOp(one *pb.ResponseOp) string {
	switch r := one.Response.(type) {
	case *pb.ResponseOp_ResponseRange:
		return "range " + ShowGet((*clientv3.GetResponse)(r.ResponseRange), nil)
	case *pb.ResponseOp_ResponsePut:
		return "put " + ShowPut((*clientv3.PutResponse)(r.ResponsePut), nil)
	case *pb.ResponseOp_ResponseDeleteRange:
		return "delete " + ShowDelete((*clientv3.DeleteResponse)(r.ResponseDeleteRange), nil)
	case *pb.ResponseOp_ResponseTxn:
		return "txn " + ShowTxn((*clientv3.TxnResponse)(r.ResponseTxn), nil)
	default:
		return "nothing"
	}
}

// ShowEvent writes a watch event.
func ShowEvent(e *clientv3.Event) string {
	text := e.Type.String() + " " + ShowKV(e.Kv)
	if e.PrevKv != nil {
		text += ", was " + ShowKV(e.PrevKv)
	}
	return text
}

// ShowWatch writes a watch response: its marks, then its events.
func ShowWatch(r clientv3.WatchResponse) string {
	text := ShowHeader(r.Header)
	if r.Created {
		text += " created"
	}
	if r.IsProgressNotify() {
		text += " progress"
	}
	if r.CompactRevision != 0 {
		text += fmt.Sprintf(" compacted %d", r.CompactRevision)
	}
	if r.Canceled {
		text += " canceled: " + ShowError(r.Err())
	}
	for _, event := range r.Events {
		text += "\n" + ShowEvent(event)
	}
	return text
}

// ShowError writes code, text, and whether the client knows the error as one of etcd's own.
func ShowError(err error) string {
	if err == nil {
		return "no error"
	}
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return fmt.Sprintf("etcd error %s: %s", known.Code(), known.Error())
	}
	if s, ok := status.FromError(err); ok {
		return fmt.Sprintf("grpc error %s: %s", s.Code(), s.Message())
	}
	return "error: " + err.Error()
}
