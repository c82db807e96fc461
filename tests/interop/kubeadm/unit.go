// Package kubeadm starts the cluster of a guide: the systemd unit that kubeadm's documentation gave
// for three etcd machines, word for word, with certificates made as that guide makes them.
//
// Each machine is a loopback address, so that even the ports are the guide's. Certificates come
// from deploy/certs.sh, which is thereby tested too.
package kubeadm

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// The paths of the guide; a test has folders of its own in their place.
const (
	guideBinary = "/usr/local/bin/etcd"
	guideData   = "/var/lib/etcd"
	guidePKI    = "/etc/kubernetes/pki/etcd"
)

// Unit is the service of one machine, run as systemd would: Type=notify, restarts left to the test.
type Unit struct {
	Name, Address string
	// PKI is what the guide calls /etc/kubernetes/pki/etcd.
	PKI string

	t       testing.TB
	command []string
	folder  string
	process *exec.Cmd
	ready   chan struct{}
	exited  chan struct{}
}

// NewUnit prepares the service of a machine of a cluster, given as name and address.
func NewUnit(t testing.TB, name string, cluster map[string]string, folder string) *Unit {
	t.Helper()
	u := &Unit{Name: name, Address: cluster[name], t: t, folder: folder,
		PKI: filepath.Join(folder, "pki", name)}
	text, err := os.ReadFile("testdata/etcd.service")
	if err != nil {
		t.Fatal(err)
	}
	program := harness.UnderTest(t)
	here := []string{
		guideBinary, program.Path,
		guideData, filepath.Join(folder, name+".data"),
		guidePKI, u.PKI,
		"${PEER_NAME}", name, "${PRIVATE_IP}", u.Address,
	}
	for other, address := range cluster {
		here = append(here, "<"+other+"-ip-address>", address)
	}
	command := strings.NewReplacer(here...).Replace(execStart(t, string(text)))
	u.command = append(strings.Fields(command), program.Args...)
	t.Cleanup(u.Kill)
	return u
}

// execStart is the command of a unit file, its continued lines joined.
func execStart(t testing.TB, unit string) string {
	t.Helper()
	joined := strings.ReplaceAll(unit, "\\\n", " ")
	for line := range strings.Lines(joined) {
		if command, found := strings.CutPrefix(line, "ExecStart="); found {
			return command
		}
	}
	t.Fatal("the unit starts nothing")
	return ""
}

// Start runs the service and returns at once; WaitReady waits for what systemd would wait for.
func (u *Unit) Start() {
	u.t.Helper()
	log, err := os.OpenFile(u.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		u.t.Fatal(err)
	}
	defer log.Close()
	socket := filepath.Join(u.folder, u.Name+".notify")
	_ = os.Remove(socket)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		u.t.Fatal(err)
	}
	process := exec.Command(u.command[0], u.command[1:]...)
	process.Stdout, process.Stderr = log, log
	process.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket,
		"PEER_NAME="+u.Name, "PRIVATE_IP="+u.Address)
	// A killed test run must not leave servers behind on this machine.
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		u.t.Fatal(err)
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	u.process, u.ready, u.exited = process, ready, exited
	go func() {
		_ = process.Wait()
		_ = notify.Close()
		close(exited)
	}()
	go hear(notify, ready)
}

// hear closes ready once the service says that it is; it ends with the socket.
func hear(notify *net.UnixConn, ready chan<- struct{}) {
	buffer := make([]byte, 4096)
	for said := false; ; {
		n, err := notify.Read(buffer)
		if err != nil {
			return
		}
		for _, line := range strings.Split(string(buffer[:n]), "\n") {
			if line == "READY=1" && !said {
				said = true
				close(ready)
			}
		}
	}
}

// Ready says whether the service has told systemd so.
func (u *Unit) Ready() bool {
	select {
	case <-u.ready:
		return true
	default:
		return false
	}
}

// WaitReady waits until the service has said that it is ready.
func (u *Unit) WaitReady() {
	u.t.Helper()
	select {
	case <-u.ready:
	case <-u.exited:
		u.t.Fatalf("%s exited: %v\n%s", u.Name, u.process.ProcessState, u.logEnd())
	case <-time.After(2 * harness.Patience):
		u.t.Fatalf("%s is not ready\n%s", u.Name, u.logEnd())
	}
}

// Kill is kill -9.
func (u *Unit) Kill() {
	if u.process == nil {
		return
	}
	_ = u.process.Process.Kill()
	<-u.exited
}

// Stop ends the service as systemctl stop does, and says if systemd would call that a failure.
func (u *Unit) Stop() error {
	if err := u.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-u.exited:
	case <-time.After(harness.Patience):
		return errors.New("still running long after SIGTERM")
	}
	status := u.process.ProcessState.Sys().(syscall.WaitStatus)
	if status.ExitStatus() == 0 || status.Signaled() && status.Signal() == syscall.SIGTERM {
		return nil
	}
	return errors.New(u.process.ProcessState.String())
}

// Endpoint is where clients find this machine.
func (u *Unit) Endpoint() string { return "https://" + u.Address + ":2379" }

func (u *Unit) logPath() string { return filepath.Join(u.folder, u.Name+".log") }

func (u *Unit) logEnd() string {
	text, err := os.ReadFile(u.logPath())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}
