package durability

import (
	"context"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kvorum/interop/harness"
)

// cutOptions keep the journal from committing on its own: what a server did not sync is lost.
const cutOptions = "commit=1000"

// The cut of these tests is one: it takes what was not synced, and nothing else.
func TestPowerCutTakesWhatWasNotSynced(t *testing.T) {
	disk := harness.NewDisk(t, 64, cutOptions)
	write := func(name string, sync bool) {
		file, err := os.Create(filepath.Join(disk.Path, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString("content"); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := file.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", true)
	write("unsynced", false)
	disk.Cut()
	disk.Remount()
	if text, err := os.ReadFile(filepath.Join(disk.Path, "synced")); string(text) != "content" {
		t.Errorf("synced: %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(disk.Path, "unsynced")); err == nil && len(text) > 0 {
		t.Errorf("unsynced: %q", text)
	}
}

// cutOnce runs the load until the power goes, brings the disk back and starts the server.
func cutOnce(t *testing.T, disk *harness.Disk, l *load, random *rand.Rand) error {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	done := make(chan struct{})
	go func() { l.run(ctx); close(done) }()
	time.Sleep(time.Duration(100+random.Intn(900)) * time.Millisecond)
	l.ledger.hear(false)
	disk.Cut()
	// It may run into the errors of its disk before it goes as well.
	time.Sleep(time.Duration(random.Intn(50)) * time.Millisecond)
	l.server.Kill()
	stop()
	<-done
	l.ledger.hear(true)
	disk.Remount()
	if random.Intn(3) == 0 {
		// Again while it recovers.
		if err := l.server.Spawn(); err != nil {
			return err
		}
		time.Sleep(time.Duration(random.Intn(400)) * time.Millisecond)
		disk.Cut()
		l.server.Kill()
		disk.Remount()
	}
	if err := l.server.Run(); err != nil {
		return err
	}
	return l.verify()
}

// CUTS power cuts (3 unless set) under load, some of them a second time during recovery.
func TestPowerCutLosesNothing(t *testing.T) {
	seed := harness.Seed(t)
	random := rand.New(rand.NewSource(seed))
	program := harness.UnderTest(t)
	disk := harness.NewDisk(t, 768, cutOptions)
	server := harness.Start(t, program, harness.Options{
		DataDir: filepath.Join(disk.Path, "data")})
	l := newLoad(t, server, seed)
	for cut := range harness.Int(t, "CUTS", 3) {
		if err := cutOnce(t, disk, l, random); err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
	}
	l.report()
}

// These tests catch a server that acknowledges before it syncs: etcd told not to sync.
func TestPowerCutCatchesWhatDoesNotSync(t *testing.T) {
	seed := harness.Seed(t)
	random := rand.New(rand.NewSource(seed))
	disk := harness.NewDisk(t, 768, cutOptions)
	careless := harness.Reference(t)
	careless.Args = append(careless.Args, "--unsafe-no-fsync")
	server := harness.Start(t, careless, harness.Options{
		DataDir: filepath.Join(disk.Path, "data"), StartTimeout: 10 * time.Second})
	l := newLoad(t, server, seed)
	for range 3 {
		if err := cutOnce(t, disk, l, random); err != nil {
			t.Logf("caught: %.200v", err)
			return
		}
	}
	t.Error("three cuts of a server that does not sync, and nothing was missed")
}
