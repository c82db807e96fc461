package clients

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
)

// grantFixed grants a lease under an id of the test's choice, which clientv3 does not offer.
func grantFixed(t *testing.T, client *clientv3.Client, id int64) clientv3.LeaseID {
	t.Helper()
	stub := pb.NewLeaseClient(client.ActiveConnection())
	r, err := stub.LeaseGrant(harness.Context(t), &pb.LeaseGrantRequest{ID: id, TTL: 600})
	if err != nil || r.ID != id || r.TTL != 600 {
		t.Fatalf("grant of %d: %v, %v", id, r, err)
	}
	return clientv3.LeaseID(id)
}
