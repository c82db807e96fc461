package chaos

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// certificateFaults change what members show to clients and to each other.
var certificateFaults = []*fault{
	{kind: "certificates renewed", needs: []string{certificates}, fits: secured,
		run: func(r *round) {
			r.during(func() {
				for _, member := range r.cluster.Members {
					r.renew(member)
					// A new connection each.
					r.load.ReadsAt(member, 4)()
				}
				// Members call each other anew as well.
				member := r.any()
				r.stop(member)
				member.Back()
			})
		}},
	{kind: "certificates of a member expired", needs: []string{certificates, clocks}, fits: secured,
		run: func(r *round) {
			member := r.any()
			old := harness.TempDir(r)
			r.authority(old)
			harness.CertifyExpired(r, old, named(member))
			r.struck(func() {
				harness.Exchange(r, r.own(member), filepath.Join(old, member.Options.Name))
				r.stop(member)
				r.spawn([]*rig.Member{member})
			})
			r.refusedForAge(member)
			r.while(time.Second)
			// It needs no other start.
			r.renew(member)
		}},
}

func secured(r *round) bool { return r.cluster.Setup.TLS }

func named(member *rig.Member) string { return member.Options.Name + "=" + member.Host.Address }

// own is the folder from which a member has its certificates.
func (r *round) own(member *rig.Member) string {
	return filepath.Join(r.cluster.PKI, member.Options.Name)
}

func (r *round) renew(member *rig.Member) {
	harness.Certify(r, r.cluster.PKI, harness.Years, named(member))
}

// authority lets a folder have the cluster's.
func (r *round) authority(folder string) {
	harness.CopyAuthority(r, r.cluster.PKI, folder)
}

// refusedForAge waits until the member is there, and its certificate refused as expired: by its
// peers it is, so it may not serve clients.
func (r *round) refusedForAge(member *rig.Member) {
	where := strings.TrimPrefix(member.Options.PeerURL, "https://")
	dialer := &net.Dialer{Timeout: time.Second}
	harness.Eventually(r, harness.Patience, func() string {
		conn, err := tls.DialWithDialer(dialer, "tcp", where, member.Options.TLS)
		if err == nil {
			_ = conn.Close()
			return "the expired certificate is taken"
		}
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return ""
		}
		return err.Error()
	})
}
