package dos

import (
	"fmt"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// leasesMax is how many leases are granted, if there is time.
const leasesMax = 1_000_000

// leaseRows are leases, granted and kept.
var leaseRows = []row{
	// What was granted stays, and so does what it takes.
	{name: "1 M lease grants", world: plain, attack: grants, must: atLeast(1000, "answered"),
		peak: 400, keeps: 400},
	{name: "keepalive storm", world: plain, attack: keepalives, must: atLeast(1000, "kept")},
}

// grants asks for leases of a day.
func grants(a *attacker) {
	const connections, each = 8, 128
	var granted atomic.Int64
	a.begins()
	a.each(connections, func(int) {
		conn := a.connect()
		defer conn.Close()
		a.crowd(each, func(int) {
			if granted.Add(1) > leasesMax {
				a.lingers()
				return
			}
			_, err := pb.NewLeaseClient(conn).LeaseGrant(a.ctx, &pb.LeaseGrantRequest{TTL: 86_400})
			a.outcome(err)
		})
	})
}

// keepalives renews a thousand leases as fast as it is answered, with 64 requests under way on
// each of 64 streams.
func keepalives(a *attacker) {
	const leases, streams, ahead = 1000, 64, 64
	setup := a.connect()
	ids := make([]int64, leases)
	for at := range ids {
		lease, err := pb.NewLeaseClient(setup).LeaseGrant(a.ctx, &pb.LeaseGrantRequest{TTL: 3600})
		if err != nil {
			a.fails(fmt.Errorf("a lease: %w", err))
		}
		ids[at] = lease.ID
	}
	a.begins()
	a.crowd(streams, func(number int) {
		conn := a.connect()
		defer conn.Close()
		stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(a.ctx)
		for one := 0; err == nil && a.goesOn(); one++ {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: ids[(number+one)%leases]})
			if err == nil && one >= ahead {
				if _, err = stream.Recv(); err == nil {
					a.note("kept")
				}
			}
		}
	})
}
