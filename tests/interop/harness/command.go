package harness

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Output is what a command printed and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Command runs a program to its end.
func Command(t testing.TB, limit time.Duration, stdin string, name string, args ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q: still running after %v\n%s%s", name, args, limit, &stdout, &stderr)
	}
	if err != nil && command.ProcessState == nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return Output{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// Succeed runs a program that must exit with 0 and returns what it printed.
func Succeed(t testing.TB, name string, args ...string) string {
	t.Helper()
	output := Command(t, 2*time.Minute, "", name, args...)
	if output.Code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", name, args, output.Code, output.Stdout, output.Stderr)
	}
	return output.Stdout
}

// Etcdctl is the path of the client tool.
func Etcdctl(t testing.TB) string { t.Helper(); return tool(t, "etcdctl") }

// Etcdutl is the path of the offline tool.
func Etcdutl(t testing.TB) string { t.Helper(); return tool(t, "etcdutl") }

// Ctl runs etcdctl against this member; it must succeed.
func (s *Server) Ctl(t testing.TB, args ...string) string {
	t.Helper()
	all := append([]string{"--endpoints", s.Endpoint(), "--command-timeout", "60s"}, args...)
	return Succeed(t, Etcdctl(t), all...)
}
