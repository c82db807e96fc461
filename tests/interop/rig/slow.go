package rig

import (
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slow carries what hosts send each other through this process, and late: kernels without netem
// have nothing else for that. Each host has a tun device to which its routes to the others point;
// connections that are open go on over it, and go back when it ends.
type slow struct {
	network *Network
	devices map[netip.Addr]*os.File
	group   sync.WaitGroup
}

const (
	tun = "slow0"
	// queueMax packets wait on the way from one host to another; more are lost.
	queueMax  = 4096
	packetMax = 64 << 10
)

// Slow lets all that hosts send each other take so much longer, by up to jitter more by chance.
func (n *Network) Slow(delay, jitter time.Duration) {
	n.t.Helper()
	s := &slow{network: n, devices: map[netip.Addr]*os.File{}}
	n.slow = s
	for _, host := range n.hosts {
		device, err := openTun(host.Namespace)
		if err != nil {
			n.t.Fatalf("%s of %s: %v", tun, host.Namespace, err)
		}
		s.devices[netip.MustParseAddr(host.Address)] = device
		n.must("ip", "-n", host.Namespace, "link", "set", tun, "up")
	}
	for _, device := range s.devices {
		s.group.Go(func() { s.carry(device, delay, jitter) })
	}
	for _, host := range n.hosts {
		for _, other := range n.hosts {
			if other != host {
				n.must("ip", "-n", host.Namespace, "route", "replace", other.Address+"/32", "dev",
					tun, "src", host.Address)
			}
		}
	}
}

func (s *slow) end() {
	for _, device := range s.devices {
		// The device goes with it, and the routes with the device.
		_ = device.Close()
	}
	s.group.Wait()
}

// late is a packet and when it arrives.
type late struct {
	packet []byte
	due    time.Time
}

// carry reads what a host sends. Packets from one host to another stay in order.
func (s *slow) carry(from *os.File, delay, jitter time.Duration) {
	ways := map[netip.Addr]chan late{}
	defer func() {
		for _, way := range ways {
			close(way)
		}
	}()
	buffer := make([]byte, packetMax)
	for {
		length, err := from.Read(buffer)
		if err != nil {
			return
		}
		if length < 20 || buffer[0]>>4 != 4 {
			continue
		}
		to := netip.AddrFrom4([4]byte(buffer[16:20]))
		if s.devices[to] == nil {
			continue
		}
		if ways[to] == nil {
			ways[to] = make(chan late, queueMax)
			s.group.Go(func() { deliver(s.devices[to], ways[to]) })
		}
		due := time.Now().Add(delay + time.Duration(rand.Int63n(int64(jitter)+1)))
		select {
		case ways[to] <- late{append([]byte(nil), buffer[:length]...), due}:
		default:
		}
	}
}

func deliver(to *os.File, way <-chan late) {
	for one := range way {
		time.Sleep(time.Until(one.due))
		_, _ = to.Write(one.packet)
	}
}

// openTun makes the tun device of a namespace. This thread has to be in there for that, and must
// come back: were it to end, so would the processes that it has begun.
func openTun(namespace string) (*os.File, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(home)
	place, err := unix.Open(netns+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(place)
	if err := unix.Setns(place, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("setns: %w", err)
	}
	defer func() {
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("this thread is lost in %s: %v", namespace, err))
		}
	}()
	number, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(tun)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(number, unix.TUNSETIFF, request); err != nil {
		_ = unix.Close(number)
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	return os.NewFile(uintptr(number), tun), nil
}

// CanSlow says whether this machine has what Slow needs.
func CanSlow(t testing.TB) bool {
	t.Helper()
	n := NewNetwork(t)
	host := n.Add()
	device, err := openTun(host.Namespace)
	if err != nil {
		t.Log(err)
		return false
	}
	defer device.Close()
	return exec.Command("ip", "-n", host.Namespace, "link", "set", tun, "up").Run() == nil
}
