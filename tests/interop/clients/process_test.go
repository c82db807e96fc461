package clients

import (
	"testing"
	"time"

	"kvorum/interop/harness"
)

// A server says that it is ready, stops when asked, and finds its data again after a stop and
// after a kill.
func TestServerStopsAndComesBack(t *testing.T) {
	server := harness.Start(t, harness.UnderTest(t), harness.Options{})
	harness.Eventually(t, 5*time.Second, func() string {
		if server.SaidReady() {
			return ""
		}
		return "no ready line in the log"
	})
	put, err := server.Client(t).Put(harness.Context(t), "kept", "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{
		server.Stop,
		func() error { server.Kill(); return nil },
	} {
		begin := time.Now()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		stopped := time.Since(begin)
		if err := server.Run(); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped in %v, back in %v", stopped, time.Since(begin)-stopped)
		got, err := server.Client(t).Get(harness.Context(t), "kept")
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
			t.Fatalf("after the restart: %v", got)
		}
	}
}
