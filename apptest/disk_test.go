package apptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// withDiskEnv tells this test program that it runs in namespaces of its own.
const withDiskEnv = "APPTEST_WITH_DISK"

// onSmallDisk runs a test with a file system of a size in memory. A mount needs
// privileges, or namespaces of users and mounts: the test runs once more as a process
// in such, which no mount outlives.
func onSmallDisk(t *testing.T, megabytes int, test func(t *testing.T, disk string)) {
	t.Helper()
	if os.Getenv(withDiskEnv) != "" {
		disk := t.TempDir()
		require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)))
		// The programs are killed before: their clean-up was asked for later.
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, 0)) })
		test(t, disk)
		return
	}
	if err := namespaced("true").Run(); err != nil {
		t.Skipf("no small disk to fill: this machine gives no user and mount namespaces (%v)", err)
	}
	cmd := namespaced(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v="+fmt.Sprint(testing.Verbose()))
	cmd.Env = append(os.Environ(), withDiskEnv+"="+filepath.Dir(seralm))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}

func namespaced(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}

// fill leaves so many bytes of a disk to others, until the returned function is called.
func fill(t *testing.T, disk string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "somebody-elses")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for {
		var own syscall.Stat_t
		var all syscall.Statfs_t
		require.NoError(t, syscall.Statfs(disk, &all))
		require.NoError(t, syscall.Fstat(int(f.Fd()), &own))
		size := int64(all.Bavail)*all.Bsize - leave
		if size <= 0 {
			return func() { require.NoError(t, os.Remove(path)) }
		}
		// The program writes meanwhile: what was free may be so no more.
		if err := syscall.Fallocate(int(f.Fd()), 0, own.Size, size); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
		}
	}
}

// clicks posts events of one user one by one, and keeps what was acknowledged.
type clicks struct {
	p     *program
	next  int
	acked []string
}

func (c *clicks) post() bool {
	c.p.t.Helper()
	item := fmt.Sprint("i", c.next%200)
	status, answer, err := c.p.do("POST", "/v1/interactions", map[string]any{"id": fmt.Sprint("c", c.next), "user": "ann", "item": item, "type": "click"})
	c.next++
	require.NoError(c.p.t, err)
	require.Contains(c.p.t, []int{200, 503}, status, "%v", answer)
	if status == 200 {
		c.acked = append(c.acked, item)
	}
	return status == 200
}

// kept tells whether everything that was acknowledged is in the history, in its order.
func (c *clicks) kept() bool {
	status, answer, err := c.p.do("GET", "/v1/users/ann/history", nil)
	if err != nil || status != 200 {
		return false
	}
	left := c.acked
	for _, item := range items(answer) {
		if len(left) > 0 && item == left[0] {
			left = left[1:]
		}
	}
	return len(left) == 0
}

// A disk that others fill: new events are refused, look-ups go on, and when there is
// room again so does everything else. Nothing that was acknowledged is lost.
func TestAFullDiskIsWaitedFor(t *testing.T) {
	onSmallDisk(t, 192, func(t *testing.T, disk string) {
		for _, c := range []struct {
			story    string
			leave    int64
			settings []string
		}{
			{"nearly", 1 << 20, nil},
			{"to the last byte, with knowledge", 0, knowing},
		} {
			t.Run(c.story, func(t *testing.T) {
				data := filepath.Join(disk, strings.ReplaceAll(c.story, " ", "-"))
				t.Cleanup(func() { require.NoError(t, os.RemoveAll(data)) })
				settings := slices.Concat([]string{"SERALM_DATA_DIR=" + data}, small, c.settings)
				p := run(t, seralm, settings, "up").up()
				walk(p, 0, 700)
				p.ready()
				p.knows("u1")
				ann := &clicks{p: p}
				for range 10 {
					require.True(t, ann.post())
				}
				free := fill(t, disk, c.leave)
				for ann.post() {
					require.Less(t, ann.next, 5000, "so many events were taken by a full disk")
				}
				p.knows("u1")
				require.Contains(t, p.err.String(), "make room")
				require.Contains(t, p.err.String(), data)
				free()
				p.until("events are taken again", ann.post)
				p.until("what was acknowledged is in the history", ann.kept)

				fill(t, disk, c.leave)
				p.kill()
				_, errs, status := call(t, seralm, settings, "up")
				require.NotZero(t, status)
				require.Contains(t, errs, "make room")
				require.Contains(t, errs, data)
				free()

				q := run(t, seralm, settings, "up").ready()
				ann.p = q
				q.until("what was acknowledged is in the history", ann.kept)
				require.True(t, ann.post())
				q.until("the next too", ann.kept)
				q.knows("ann")
				require.NoError(t, q.terminate())
			})
		}
	})
}
