package clients

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

func TestStatus(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	furnish(t, client)
	ctx := harness.Context(t)
	var first *clientv3.StatusResponse
	for range 2 {
		var r *clientv3.StatusResponse
		// etcd writes the storage version down a moment after it serves.
		harness.Eventually(t, harness.Patience, func() string {
			var err error
			if r, err = client.Status(ctx, server.Endpoint()); err != nil {
				return err.Error()
			}
			if r.StorageVersion != "3.7.0" {
				return "storage version " + r.StorageVersion
			}
			return ""
		})
		// kube-apiserver reads features from the version: it must parse and be of this line.
		if !regexp.MustCompile(`^3\.7\.\d+$`).MatchString(r.Version) {
			t.Errorf("version %q", r.Version)
		}
		if r.Leader == 0 || r.Leader != r.Header.MemberId || r.IsLearner {
			t.Errorf("leader %x, member %x", r.Leader, r.Header.MemberId)
		}
		if r.RaftIndex == 0 || r.RaftTerm == 0 || r.RaftAppliedIndex != r.RaftIndex ||
			r.RaftTerm != r.Header.RaftTerm || r.Header.Revision != 12 {
			t.Errorf("index %d, applied %d, term %d, %s", r.RaftIndex, r.RaftAppliedIndex,
				r.RaftTerm, harness.ShowHeader(r.Header))
		}
		if r.DbSize <= 0 || r.DbSizeInUse <= 0 || r.DbSizeInUse > r.DbSize {
			t.Errorf("size %d, in use %d", r.DbSize, r.DbSizeInUse)
		}
		if r.DbSizeQuota != 2<<30 || len(r.Errors) != 0 {
			t.Errorf("quota %d, errors %q", r.DbSizeQuota, r.Errors)
		}
		if r.DowngradeInfo == nil || r.DowngradeInfo.Enabled {
			t.Errorf("downgrade info %v", r.DowngradeInfo)
		}
		if first == nil {
			first = r
			server.Kill()
			if err := server.Run(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if r.RaftTerm <= first.RaftTerm || r.RaftIndex <= first.RaftIndex ||
			r.Header.MemberId != first.Header.MemberId ||
			r.Header.ClusterId != first.Header.ClusterId {
			t.Errorf("before and after a restart: %v\n%v", first, r)
		}
	}
}

// The hash of the store depends on its history alone: these numbers are etcd's.
func TestHashKV(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	hash := func(revision int64) {
		r, err := client.HashKV(ctx, server.Endpoint(), revision)
		text := harness.ShowError(err)
		if err == nil {
			text = fmt.Sprintf("%s hash %08x, hashed to %d, compacted %d",
				harness.ShowHeader(r.Header), r.Hash, r.HashRevision, r.CompactRevision)
		}
		golden.Line("at %d: %s", revision, text)
	}
	golden.Section("empty store")
	hash(0)
	hash(1)
	hash(2)
	pageHistory(t, client)
	golden.Section("history")
	for revision := int64(0); revision <= 15; revision++ {
		hash(revision)
	}
	for _, compacted := range []int64{5, 9, 13, 14} {
		if _, err := client.Compact(ctx, compacted, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		golden.Section(fmt.Sprintf("compacted at %d", compacted))
		for revision := int64(0); revision <= 15; revision++ {
			hash(revision)
		}
	}
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	golden.Section("after a restart")
	for revision := int64(12); revision <= 15; revision++ {
		hash(revision)
	}
	if r, err := pb.NewMaintenanceClient(server.Conn(t)).Hash(ctx, &pb.HashRequest{}); err != nil ||
		r.Hash == 0 || r.Header.Revision != 14 {
		t.Errorf("hash of everything: %v, %v", r, err)
	}
}

// A full database refuses what would grow it and nothing else, raises an alarm, and recovers
// when space was made and the alarm cleared.
func TestQuotaAlarm(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{
		Args: []string{"--quota-backend-bytes", fmt.Sprint(16 << 20)}})
	client := server.Client(t)
	ctx := harness.ContextFor(t, time.Minute)
	stub := pb.NewMaintenanceClient(server.Conn(t))
	alarms := func() []*pb.AlarmMember {
		r, err := client.AlarmList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r.Alarms
	}
	if len(alarms()) != 0 {
		t.Fatalf("alarms at the start: %v", alarms())
	}
	grantFixed(t, client, 31)
	acknowledged := 0
	value := strings.Repeat("x", 1<<20)
	for ; acknowledged < 64; acknowledged++ {
		_, err := client.Put(ctx, fmt.Sprintf("big%02d", acknowledged), value)
		if err == rpctypes.ErrNoSpace {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The size is known as of the last commit of the backend, so that some more slips through.
	if acknowledged < 4 || acknowledged > 40 {
		t.Fatalf("%d MiB fit into a quota of 16 MiB", acknowledged)
	}
	list := alarms()
	if len(list) != 1 || list[0].Alarm != pb.AlarmType_NOSPACE || list[0].MemberID == 0 {
		t.Fatalf("alarms: %v", list)
	}
	underAlarm(t, server, client, acknowledged)
	got, err := client.Get(ctx, "small")
	if err != nil || got.Count != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	revision := got.Header.Revision
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Defragment(ctx, server.Endpoint()); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	if len(alarms()) != 1 {
		t.Fatalf("space alone must not clear the alarm: %v", alarms())
	}
	// etcdctl lists the alarm, and clears all there are.
	want := fmt.Sprintf("memberID:%d alarm:NOSPACE", list[0].MemberID)
	for _, command := range []string{"list", "disarm"} {
		text := strings.Join(strings.Fields(server.Ctl(t, "alarm", command)), " ")
		if text != want {
			t.Errorf("etcdctl alarm %s: %q, expected %q", command, text, want)
		}
	}
	if r, err := stub.Alarm(ctx, &pb.AlarmRequest{}); err != nil || len(r.Alarms) != 0 {
		t.Fatalf("after disarm: %v, %v", r, err)
	}
	if put, err := client.Put(ctx, "small", "1"); err != nil || put.Header.Revision != revision+1 {
		t.Fatalf("%v, %v", put, err)
	}
}

// underAlarm asks for what is refused and what is not while there is no space: big is how many
// large keys there are, which it deletes.
func underAlarm(t *testing.T, server *harness.Server, client *clientv3.Client, big int) {
	t.Helper()
	ctx := harness.Context(t)
	for label, op := range map[string]clientv3.Op{
		"small put":   clientv3.OpPut("small", "1"),
		"txn of puts": clientv3.OpTxn(nil, ops(clientv3.OpPut("small", "1")), nil),
		"txn whose other branch puts": clientv3.OpTxn(nil, ops(clientv3.OpDelete("none")),
			ops(clientv3.OpPut("small", "1"))),
	} {
		if _, err := client.Do(ctx, op); err != rpctypes.ErrNoSpace {
			t.Errorf("%s: %v", label, err)
		}
	}
	if _, err := client.Grant(ctx, 100); err != rpctypes.ErrNoSpace {
		t.Errorf("grant: %v", err)
	}
	if got, err := client.Get(ctx, "big", clientv3.WithPrefix()); err != nil ||
		len(got.Kvs) != big {
		t.Errorf("list: %v", err)
	}
	if r, err := client.Status(ctx, server.Endpoint()); err != nil || len(r.Errors) != 1 ||
		!strings.Contains(r.Errors[0], "NOSPACE") {
		t.Errorf("status: %v, %v", err, r)
	}
	for label, op := range map[string]clientv3.Op{
		"range in a txn":  clientv3.OpTxn(nil, ops(clientv3.OpGet("big00")), nil),
		"delete in a txn": clientv3.OpTxn(nil, ops(clientv3.OpDelete("big00")), nil),
		"delete":          clientv3.OpDelete("big", clientv3.WithPrefix()),
	} {
		if _, err := client.Do(ctx, op); err != nil {
			t.Errorf("%s: %v", label, err)
		}
	}
	if _, err := client.Revoke(ctx, 31); err != nil {
		t.Errorf("revoke: %v", err)
	}
}

// Alarms set by hand, as an operator or another member may.
func TestAlarmByHand(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	golden := harness.Golden(t)
	ctx := harness.Context(t)
	stub := pb.NewMaintenanceClient(server.Conn(t))
	alarm := func(label string, request *pb.AlarmRequest) {
		r, err := stub.Alarm(ctx, request)
		text := harness.ShowError(err)
		if err == nil {
			text = harness.ShowHeader(r.Header)
			for _, one := range r.Alarms {
				text += fmt.Sprintf(", %d %s", one.MemberID, one.Alarm)
			}
		}
		golden.Line("%s: %s", label, text)
	}
	activate, deactivate := pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
	alarm("list", &pb.AlarmRequest{})
	alarm("activate NOSPACE of 5", &pb.AlarmRequest{Action: activate, MemberID: 5, Alarm: 1})
	alarm("the same again", &pb.AlarmRequest{Action: activate, MemberID: 5, Alarm: 1})
	alarm("list of kind NOSPACE", &pb.AlarmRequest{Alarm: 1})
	alarm("list of kind CORRUPT", &pb.AlarmRequest{Alarm: 2})
	put, err := client.Put(ctx, "k", "1")
	golden.Line("put: %s", harness.ShowPut(put, err))
	alarm("deactivate of another", &pb.AlarmRequest{Action: deactivate, MemberID: 6, Alarm: 1})
	alarm("deactivate", &pb.AlarmRequest{Action: deactivate, MemberID: 5, Alarm: 1})
	put, err = client.Put(ctx, "k", "1")
	golden.Line("put: %s", harness.ShowPut(put, err))
	alarm("activate CORRUPT of 5", &pb.AlarmRequest{Action: activate, MemberID: 5, Alarm: 2})
	put, err = client.Put(ctx, "k", "2")
	golden.Line("put: %s", harness.ShowPut(put, err))
	removed, err := client.Delete(ctx, "k")
	golden.Line("delete: %s", harness.ShowDelete(removed, err))
	txn, err := client.Txn(ctx).Then(clientv3.OpPut("k", "2")).Commit()
	golden.Line("txn: %s", harness.ShowTxn(txn, err))
	_, err = client.Grant(ctx, 100)
	golden.Line("grant: %s", harness.ShowError(err))
	_, err = client.Compact(ctx, 2)
	golden.Line("compact: %s", harness.ShowError(err))
	got, err := client.Get(ctx, "k")
	golden.Line("get: %s", harness.ShowGet(got, err))
	alarm("deactivate CORRUPT", &pb.AlarmRequest{Action: deactivate, MemberID: 5, Alarm: 2})
	put, err = client.Put(ctx, "k", "3")
	golden.Line("put: %s", harness.ShowPut(put, err))
}

// Defragmenting changes no content and gives space back to the file system.
func TestDefragment(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.ContextFor(t, time.Minute)
	furnish(t, client)
	for i := range 40 {
		_, err := client.Put(ctx, "big", strings.Repeat(fmt.Sprint(i%10), 1<<20))
		if err != nil {
			t.Fatal(err)
		}
	}
	removed, err := client.Delete(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(ctx, removed.Header.Revision,
		clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	everything := func() string {
		got, err := client.Get(ctx, "", clientv3.WithFromKey())
		return harness.ShowGet(got, err)
	}
	before := everything()
	large, err := client.Status(ctx, server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Defragment(ctx, server.Endpoint()); err != nil {
		t.Fatal(err)
	}
	small, err := client.Status(ctx, server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if small.DbSize > 8<<20 || small.DbSize > large.DbSize {
		t.Errorf("%d bytes before, %d after", large.DbSize, small.DbSize)
	}
	if after := everything(); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
}

// The snapshot stream counts down, ends with the checksum of what it sent, and has the size of a
// bbolt file and that checksum.
func TestSnapshotStream(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	client := server.Client(t)
	ctx := harness.ContextFor(t, time.Minute)
	furnish(t, client)
	for i := range 8 {
		if _, err := client.Put(ctx, fmt.Sprint(i), strings.Repeat("s", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := pb.NewMaintenanceClient(server.Conn(t)).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	var remaining []uint64
	var sizes []int
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Version != "3.7.0" {
			t.Fatalf("version %q", r.Version)
		}
		whole.Write(r.Blob)
		remaining = append(remaining, r.RemainingBytes)
		sizes = append(sizes, len(r.Blob))
	}
	if whole.Len() < 32 || len(sizes) < 2 {
		t.Fatalf("%d bytes in %d messages", whole.Len(), len(sizes))
	}
	body, trailer := whole.Bytes()[:whole.Len()-32], whole.Bytes()[whole.Len()-32:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], trailer) || len(body)%512 != 0 {
		t.Errorf("%d bytes, their checksum %x, the trailer %x", len(body), sum, trailer)
	}
	left := uint64(len(body))
	for i, size := range sizes[:len(sizes)-1] {
		left -= uint64(size)
		if remaining[i] != left || size > 32<<10 {
			t.Fatalf("message %d: %d bytes, %d remaining instead of %d", i, size, remaining[i],
				left)
		}
	}
	if n := len(sizes) - 1; sizes[n] != 32 || remaining[n] != 0 || left != 0 {
		t.Errorf("last message: %d bytes, %d remaining", sizes[n], remaining[n])
	}
}
