package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Disk is a small file system of a test's own, that can be filled up or lose its power.
type Disk struct {
	// Path is where it is mounted.
	Path    string
	t       testing.TB
	image   string
	options string
}

// NewDisk makes an ext4 of the given size in a file and mounts it. Mount options are ext4's.
func NewDisk(t testing.TB, megabytes int, options string) *Disk {
	t.Helper()
	if os.Getuid() != 0 {
		Lacking(t, "a disk of its own needs root")
	}
	folder := TempDir(t)
	d := &Disk{Path: filepath.Join(folder, "disk"), t: t, image: filepath.Join(folder, "image"),
		options: "loop," + options}
	if err := os.Mkdir(d.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Truncate(int64(megabytes) << 20); err != nil {
		t.Fatal(err)
	}
	image.Close()
	if text, err := system("mkfs.ext4", "-q", "-F", d.image); err != nil {
		Lacking(t, "a disk of its own needs mkfs.ext4: "+text)
	}
	if text, err := d.mount(); err != nil {
		Lacking(t, "a disk of its own needs loop mounts: "+text)
	}
	t.Cleanup(func() { d.unmount() })
	return d
}

// Lacking skips a test for want of something in this machine; REQUIRE_FAULTS=1 makes it a failure,
// for where it must have run.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("REQUIRE_FAULTS") == "1" {
		t.Fatal(what)
	}
	t.Skip("skipped: " + what)
}

func system(name string, args ...string) (string, error) {
	text, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return strings.TrimSpace(fmt.Sprintf("%v: %s", err, text)), err
	}
	return "", nil
}

func (d *Disk) mount() (string, error) {
	return system("mount", "-o", d.options, d.image, d.Path)
}

func (d *Disk) unmount() {
	d.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		text, err := system("umount", d.Path)
		if err == nil || strings.Contains(text, "not mounted") {
			return
		}
		if time.Now().After(deadline) {
			d.t.Errorf("umount: %s", text)
			_, _ = system("umount", "-l", d.Path)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// FS_IOC_SHUTDOWN, and its flag to drop the journal too: what was not synced is gone.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// Cut ends the file system as a power cut would: from here on nothing is written, and whoever
// still has it open gets errors.
func (d *Disk) Cut() {
	d.t.Helper()
	folder, err := os.Open(d.Path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer folder.Close()
	flag := uint32(noLogFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, folder.Fd(), ioctlShutdown,
		uintptr(unsafe.Pointer(&flag)))
	if errno != 0 {
		Lacking(d.t, fmt.Sprintf("a power cut needs FS_IOC_SHUTDOWN on ext4: %v", errno))
	}
}

// Remount brings back what the disk really has. Nobody may hold a file on it.
func (d *Disk) Remount() {
	d.t.Helper()
	d.unmount()
	if text, err := d.mount(); err != nil {
		d.t.Fatalf("mount after a cut: %s", text)
	}
}

const ballast = "ballast"

// Fill leaves so many bytes free, by a file that is in the way.
func (d *Disk) Fill(leave int64) {
	d.t.Helper()
	var usage syscall.Statfs_t
	if err := syscall.Statfs(d.Path, &usage); err != nil {
		d.t.Fatal(err)
	}
	// All free blocks, those kept for root included: a server run by root uses them too.
	size := int64(usage.Bfree)*usage.Bsize - leave
	if size <= 0 {
		return
	}
	file, err := os.OpenFile(filepath.Join(d.Path, ballast), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	// Extents need blocks as well: take what can be had.
	for size > 0 {
		if err := syscall.Fallocate(int(file.Fd()), 0, 0, size); err == nil {
			return
		}
		size -= 64 << 10
	}
}

// Free takes the file out of the way.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.Path, ballast)); err != nil {
		d.t.Fatal(err)
	}
}
