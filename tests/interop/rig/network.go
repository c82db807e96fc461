// Package rig runs clusters of real processes, each member in a network namespace of its own, loads
// them through etcd's own client, and has judged what the clients saw.
//
//   - Everything clients asked and heard is recorded, and the whole history goes through the
//     checker of tests/checker: no acknowledged write lost or doubled, no stale linearizable read,
//     no event missed.
//   - Of each fault it is measured how long it took until a write was acknowledged that was begun
//     after it. A fault under too little load does not count.
//   - Where the machine itself stood still the time is not counted: a canary notices that.
//
// The tests of tests/interop/cluster are made with it, one fault each, and tests/chaos, all by lot.
package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"kvorum/interop/harness"
)

// Network is a bridge with one namespace per member on it. This process is on the bridge as well
// and reaches all members, whatever is cut between them.
type Network struct {
	t      testing.TB
	bridge string
	subnet string
	hosts  []*Host
	// slow is what carries packets late; nil when none are late.
	slow *slow
	// narrow: some host's wire is.
	narrow bool
}

// Host is where one member lives.
type Host struct {
	Namespace, Address string
	// outside is the bridge's end of its wire.
	outside string
}

// Namespaces begin with this and the process that made them; what is made is never made again.
const prefix = "kvorum"

// netns is where namespaces have their names.
const netns = "/var/run/netns/"

var made atomic.Int64

// rules are what a host's packets go through: whom it does not hear is in the set, and what is lost
// by chance is in the second chain.
const rules = `table ip kvorum {
	set deaf { type ipv4_addr; }
	chain in { type filter hook input priority 0; ip saddr @deaf drop; }
	chain loss { type filter hook input priority 1; }
}`

// NewNetwork makes a network without hosts; it ends with the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		harness.Lacking(t, "needs root, for network namespaces")
	}
	for program, pack := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			harness.Lacking(t, fmt.Sprintf("needs %s (Debian: %s)", program, pack))
		}
	}
	sweep()
	n := &Network{t: t, bridge: fmt.Sprintf("kv%d", os.Getpid()), subnet: freeSubnet(t)}
	t.Cleanup(n.remove)
	n.must("ip", "link", "add", n.bridge, "type", "bridge")
	n.must("ip", "addr", "add", n.subnet+".254/24", "dev", n.bridge)
	n.must("ip", "link", "set", n.bridge, "up")
	return n
}

// freeSubnet finds addresses nobody here has.
func freeSubnet(t testing.TB) string {
	t.Helper()
	used, err := exec.Command("ip", "-o", "-4", "addr").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		subnet := fmt.Sprintf("10.77.%d", i)
		if !strings.Contains(string(used), subnet+".") {
			return subnet
		}
	}
	t.Fatal("all of 10.77.0.0/16 is in use")
	return ""
}

// sweep removes what killed test runs have left.
func sweep() {
	names, _ := filepath.Glob(netns + prefix + "-*")
	for _, name := range names {
		var pid, number int
		base := filepath.Base(name)
		if _, err := fmt.Sscanf(base, prefix+"-%d-%d", &pid, &number); err != nil {
			continue
		}
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = exec.Command("ip", "netns", "del", base).Run()
			_ = exec.Command("ip", "link", "del", fmt.Sprintf("kv%d", pid)).Run()
		}
	}
}

func (n *Network) remove() {
	if n.slow != nil {
		n.slow.end()
	}
	for _, host := range n.hosts {
		// The kernel ends a namespace in its own time, but a wire at once.
		_ = exec.Command("ip", "link", "del", host.outside).Run()
		_ = exec.Command("ip", "netns", "del", host.Namespace).Run()
	}
	_ = exec.Command("ip", "link", "del", n.bridge).Run()
}

func (n *Network) must(args ...string) {
	n.t.Helper()
	if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		harness.Lacking(n.t, fmt.Sprintf("needs %q, and that failed: %v: %s", args, err, text))
	}
}

// Add makes one more host.
func (n *Network) Add() *Host {
	n.t.Helper()
	number := made.Add(1)
	h := &Host{Namespace: fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), number),
		Address: fmt.Sprintf("%s.%d", n.subnet, len(n.hosts)+1),
		outside: fmt.Sprintf("%s-%d", n.bridge, number)}
	n.hosts = append(n.hosts, h)
	n.must("ip", "netns", "add", h.Namespace)
	n.must("ip", "link", "add", h.outside, "type", "veth", "peer", "name", "eth0",
		"netns", h.Namespace)
	n.must("ip", "link", "set", h.outside, "master", n.bridge, "up")
	n.must("ip", "-n", h.Namespace, "addr", "add", h.Address+"/24", "dev", "eth0")
	n.must("ip", "-n", h.Namespace, "link", "set", "eth0", "up")
	n.must("ip", "-n", h.Namespace, "link", "set", "lo", "up")
	n.must("ip", "netns", "exec", h.Namespace, "nft", rules)
	return h
}

// Deafen makes a host lose what another sends it; the other still hears it.
func (n *Network) Deafen(deaf *Host, to ...*Host) {
	n.t.Helper()
	if len(to) == 0 {
		return
	}
	var addresses []string
	for _, host := range to {
		addresses = append(addresses, host.Address)
	}
	n.nft(deaf, "add", "element", "ip", "kvorum", "deaf", "{ "+strings.Join(addresses, ", ")+" }")
}

// Cut makes two hosts lose what they send each other.
func (n *Network) Cut(a, b *Host) {
	n.t.Helper()
	n.Deafen(a, b)
	n.Deafen(b, a)
}

// Isolate cuts a host off all others.
func (n *Network) Isolate(host *Host) {
	n.t.Helper()
	var others []*Host
	for _, other := range n.hosts {
		if other != host {
			others = append(others, other)
			n.Deafen(other, host)
		}
	}
	n.Deafen(host, others...)
}

// Lose makes all hosts lose so many of a hundred packets that others send them.
func (n *Network) Lose(percent int) {
	n.t.Helper()
	for _, host := range n.hosts {
		n.nft(host, "add", "rule", "ip", "kvorum", "loss", "iifname", "!=", "lo", "ip", "saddr",
			"!=", n.subnet+".254", "numgen", "random", "mod", "100", "<", fmt.Sprint(percent),
			"drop")
	}
}

// Narrow lets a host send others so many kilobits per second; clients have the wire they had.
func (n *Network) Narrow(host *Host, kilobits int) {
	n.t.Helper()
	n.narrow = true
	tc := func(args ...string) {
		n.must(append([]string{"tc", "-n", host.Namespace}, args...)...)
	}
	tc("qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "20")
	tc("class", "add", "dev", "eth0", "parent", "1:", "classid", "1:10", "htb", "rate", "1gbit",
		"quantum", "60000")
	tc("class", "add", "dev", "eth0", "parent", "1:", "classid", "1:20", "htb", "rate",
		fmt.Sprintf("%dkbit", kilobits))
	tc("filter", "add", "dev", "eth0", "parent", "1:", "protocol", "ip", "u32", "match", "ip",
		"dst", n.subnet+".254/32", "flowid", "1:10")
}

func (n *Network) nft(host *Host, args ...string) {
	n.t.Helper()
	n.must(append([]string{"ip", "netns", "exec", host.Namespace, "nft"}, args...)...)
}

// Heal ends all cuts, losses and delays.
func (n *Network) Heal() {
	n.t.Helper()
	for _, host := range n.hosts {
		n.nft(host, "flush", "set", "ip", "kvorum", "deaf", ";", "flush", "chain", "ip", "kvorum",
			"loss")
		if n.narrow {
			_ = exec.Command("tc", "-n", host.Namespace, "qdisc", "del", "dev", "eth0",
				"root").Run()
		}
	}
	n.narrow = false
	if n.slow != nil {
		n.slow.end()
		n.slow = nil
	}
}
