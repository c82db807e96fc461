package harness

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	readyLine    = "ready to serve client requests"
	startTimeout = 30 * time.Second
	stopTimeout  = 30 * time.Second
	logTail      = 4 << 10
)

// Options say how a member is started. The zero value is a fresh single member.
type Options struct {
	// Dir holds data, logs and snapshots. Empty: a new folder, kept only if the test fails.
	Dir string
	// Args come after the harness's own flags.
	Args []string
	// DataDir overrides Dir/data, for data on a file system of its own.
	DataDir string
	// Name of the member; "default" when empty.
	Name string
	// InitialCluster overrides the single-member cluster.
	InitialCluster string
	// StartTimeout is how long starting may take; half a minute when zero.
	StartTimeout time.Duration
	// PeerURL and ClientURL override free ports.
	PeerURL, ClientURL string
	// Joins says that the member joins a cluster that exists.
	Joins bool
	// Through is a command that runs the program, as "ip netns exec NAME" does.
	Through []string
	// TLS is what clients need; nil where they need nothing.
	TLS *tls.Config
}

// Server is one member process. It can be stopped, killed and started again on the same data.
type Server struct {
	Program Program
	Options Options
	t       testing.TB
	process *exec.Cmd
	exited  chan struct{}
	runs    int
	// ended: the harness ended the process itself.
	ended bool
}

// Start runs a fresh member and waits until it serves.
func Start(t testing.TB, program Program, options Options) *Server {
	t.Helper()
	server := New(t, program, options)
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	return server
}

// New prepares a member without starting it.
func New(t testing.TB, program Program, options Options) *Server {
	t.Helper()
	if options.Dir == "" {
		options.Dir = TempDir(t)
	}
	if options.DataDir == "" {
		options.DataDir = filepath.Join(options.Dir, "data")
	}
	if options.Name == "" {
		options.Name = "default"
	}
	if options.StartTimeout == 0 {
		options.StartTimeout = startTimeout
	}
	if options.ClientURL == "" {
		options.ClientURL = FreeURL(t)
	}
	if options.PeerURL == "" {
		options.PeerURL = FreeURL(t)
	}
	if options.InitialCluster == "" {
		options.InitialCluster = options.Name + "=" + options.PeerURL
	}
	server := &Server{Program: program, Options: options, t: t}
	t.Cleanup(func() {
		died := server.process != nil && !server.Running() && !server.ended
		server.Kill()
		if t.Failed() && died {
			t.Logf("%s died; end of %s:\n%s", options.Name, server.LogPath(), server.logEnd())
		}
	})
	return server
}

// Run starts the process on its data directory and waits until it serves.
func (s *Server) Run() error {
	if err := s.Spawn(); err != nil {
		return err
	}
	return s.WaitReady()
}

// Spawn starts the process and returns at once.
func (s *Server) Spawn() error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.runs++
	fmt.Fprintf(log, "---- start %d\n", s.runs)
	o := s.Options
	state := "new"
	if o.Joins {
		state = "existing"
	}
	args := append(slices.Clone(o.Through), s.Program.Path,
		"--name="+o.Name, "--data-dir="+o.DataDir,
		"--listen-client-urls="+o.ClientURL, "--advertise-client-urls="+o.ClientURL,
		"--listen-peer-urls="+o.PeerURL, "--initial-advertise-peer-urls="+o.PeerURL,
		"--initial-cluster="+o.InitialCluster, "--initial-cluster-state="+state,
		"--logger=zap", "--log-outputs=stderr",
	)
	args = append(append(args, s.Program.Args...), o.Args...)
	process := exec.Command(args[0], args[1:]...)
	process.Stdout, process.Stderr = log, log
	// A killed test run must not leave servers behind on this machine.
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = process.Wait()
		close(exited)
	}()
	s.process, s.exited, s.ended = process, exited, false
	return nil
}

// Found has members that were not started yet found a cluster, and waits until all of them serve.
func Found(t testing.TB, members ...*Server) {
	t.Helper()
	var names []string
	for _, member := range members {
		names = append(names, member.Options.Name+"="+member.Options.PeerURL)
	}
	for _, member := range members {
		member.Options.InitialCluster = strings.Join(names, ",")
		if err := member.Spawn(); err != nil {
			t.Fatal(err)
		}
	}
	for _, member := range members {
		if err := member.WaitReady(); err != nil {
			t.Fatal(err)
		}
	}
}

// WaitReady waits for the health endpoint to say that a linearizable read succeeds.
func (s *Server) WaitReady() error {
	deadline := time.Now().Add(s.Options.StartTimeout)
	transport := &http.Transport{TLSClientConfig: s.Options.TLS, DisableKeepAlives: true}
	client := http.Client{Timeout: 2 * time.Second, Transport: transport}
	var last error
	for time.Now().Before(deadline) {
		select {
		case <-s.exited:
			return fmt.Errorf("%s exited while starting:\n%s", s.Program.Path, s.logEnd())
		case <-time.After(10 * time.Millisecond):
		}
		if last = healthy(client, s.Options.ClientURL); last == nil {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v: %w\n%s", s.Options.StartTimeout, last, s.logEnd())
}

func healthy(client http.Client, url string) error {
	body, err := fetch(client, url+"/health")
	if err != nil {
		return err
	}
	// A member under alarm serves, though it calls itself unhealthy.
	if !strings.Contains(body, `"health":"true"`) && !strings.Contains(body, `"reason":"ALARM`) {
		return fmt.Errorf("health: %s", body)
	}
	// The cluster's version is agreed on a moment later, and some requests need it.
	body, err = fetch(client, url+"/version")
	if err == nil && !strings.Contains(body, `"etcdcluster":"3.`) {
		return fmt.Errorf("version: %s", body)
	}
	return err
}

func fetch(client http.Client, url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// Stop asks the process to end and waits for it.
func (s *Server) Stop() error {
	if !s.Running() {
		return nil
	}
	s.ended = true
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopTimeout):
		s.Kill()
		return errors.New("still running after SIGTERM and 30 s")
	}
}

// Kill ends the process the hard way: nothing it holds in memory survives.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.ended = s.ended || s.Running()
	_ = s.process.Process.Kill()
	<-s.exited
}

// Running says whether the process is alive.
func (s *Server) Running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Pid of the running process.
func (s *Server) Pid() int { return s.process.Process.Pid }

// Endpoint is the client address as etcdctl and clientv3 take it.
func (s *Server) Endpoint() string { return s.Options.ClientURL }

// LogPath is the file that holds what every run of this member printed.
func (s *Server) LogPath() string {
	return filepath.Join(s.Options.Dir, s.Options.Name+".log")
}

// SaidReady says whether the log has etcd's ready line, which tools wait for.
func (s *Server) SaidReady() bool {
	text, err := os.ReadFile(s.LogPath())
	return err == nil && bytes.Contains(text, []byte(readyLine))
}

func (s *Server) logEnd() string {
	text, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	if len(text) > logTail {
		text = text[len(text)-logTail:]
	}
	return string(text)
}

// TempDir is a folder that outlives a failed test, so that its data can be looked at.
func TempDir(t testing.TB) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	folder, err := os.MkdirTemp("", "interop-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept: %s", folder)
			return
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Errorf("leftover: %v", err)
		}
	})
	return folder
}

// Ports below those the kernel gives to outgoing connections: one of these could take the port of
// a server that is down for a moment. Each is handed out once.
const (
	firstPort = 12_000
	lastPort  = 32_000
)

var nextPort atomic.Int64

func init() { nextPort.Store(firstPort + rand.Int63n(lastPort-firstPort)) }

// FreeURL is a loopback address nobody listens on right now.
func FreeURL(t testing.TB) string {
	t.Helper()
	for range lastPort - firstPort {
		port := firstPort + (nextPort.Add(1)-firstPort)%(lastPort-firstPort)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer listener.Close()
			return "http://" + listener.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// StartCluster runs n members that know each other and waits for all of them.
func StartCluster(t testing.TB, program Program, n int, options Options) []*Server {
	t.Helper()
	members := make([]*Server, n)
	for i := range members {
		member := options
		member.Name = fmt.Sprintf("m%d", i)
		member.PeerURL = FreeURL(t)
		member.InitialCluster = "later"
		members[i] = New(t, program, member)
	}
	Found(t, members...)
	return members
}
