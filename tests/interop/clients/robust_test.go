package clients

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// Two requests any client may send end etcd 3.7.3: an alarm request with an action it does not
// know, and a txn that deletes a key through an open-ended range and then puts it keeping its
// lease or value. The second is in the log by then, and kills every restart too. Whatever another
// server answers, it must live, and agree with itself after a restart.
func TestSurvivesWhatKillsEtcd(t *testing.T) {
	program := harness.UnderTest(t)
	if program.Etcd {
		t.Skip("skipped: etcd itself does not survive this")
	}
	server := harness.Start(t, program, harness.Options{})
	client := server.Client(t)
	ctx := harness.Context(t)
	grantFixed(t, client, 41)
	if _, err := client.Put(ctx, "k", "1", clientv3.WithLease(41)); err != nil {
		t.Fatal(err)
	}
	_, err := pb.NewMaintenanceClient(server.Conn(t)).Alarm(ctx, &pb.AlarmRequest{Action: 9})
	t.Logf("unknown alarm action: %s", harness.ShowError(err))
	for label, keep := range map[string]clientv3.OpOption{
		"value": clientv3.WithIgnoreValue(), "lease": clientv3.WithIgnoreLease(),
	} {
		r, err := client.Txn(ctx).Then(clientv3.OpDelete("a", clientv3.WithFromKey()),
			clientv3.OpPut("k", "", keep)).Commit()
		t.Logf("delete, then keep the %s: %s", label, harness.ShowTxn(r, err))
	}
	back, err := client.Txn(ctx).Then(clientv3.OpDelete("a", clientv3.WithFromKey()),
		clientv3.OpPut("k", "back")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(ctx, back.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Get(ctx, "k"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "back" {
		t.Errorf("put back and compacted: %s", harness.ShowGet(got, err))
	}
	before, err := client.Get(ctx, "", clientv3.WithFromKey())
	if err != nil || !server.Running() {
		t.Fatalf("running %v: %v", server.Running(), err)
	}
	server.Kill()
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := client.Get(ctx, "", clientv3.WithFromKey())
	if got, want := harness.ShowGet(after, err), harness.ShowGet(before, nil); got != want {
		t.Errorf("before the restart %s\nafter %s", want, got)
	}
}
