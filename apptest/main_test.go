package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The binaries, built once.
var seralm, seralmServe string

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	if dir := os.Getenv(withDiskEnv); dir != "" { // disk_test.go: built already
		seralm, seralmServe = filepath.Join(dir, "seralm"), filepath.Join(dir, "seralm-serve")
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "seralm-apptest-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	seralm, seralmServe = filepath.Join(dir, "seralm"), filepath.Join(dir, "seralm-serve")
	for path, pkg := range map[string]string{seralm: "seralm/cmd/seralm", seralmServe: "seralm/cmd/seralm-serve"} {
		if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building %s: %w\n%s", pkg, err, out)
		}
	}
	return m.Run(), nil
}

// small is a model that learns fast and little.
var small = []string{
	"SERALM_RECOMMENDER_DIM=16", "SERALM_RECOMMENDER_INNER=32", "SERALM_RECOMMENDER_LAYERS=1", "SERALM_RECOMMENDER_MAX_LEN=20", "SERALM_RECOMMENDER_THREADS=1",
	"SERALM_RECOMMENDER_LEARNING_RATE=0.01", "SERALM_TRAINER_SNAPSHOT_EACH=300ms", "SERALM_TRAINER_CHECKPOINT_STEPS=5", "SERALM_TRAINER_BATCH_EVENTS=64",
}

// program is a running binary.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	base string // of its HTTP API
	err  *output
	done chan struct{} // closed when it has ended
	exit error
}

// output is a bounded, concurrent buffer.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() < 1<<20 {
		o.b.Write(p)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// environment is the process's own without its settings, and then the given ones.
func environment(settings ...string) []string {
	env := []string{}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SERALM_") || strings.HasPrefix(kv, "SERALM_ONNXRUNTIME=") {
			env = append(env, kv)
		}
	}
	return append(env, settings...)
}

// run starts a binary that listens, on a free port, with settings NAME=VALUE.
func run(t *testing.T, path string, settings []string, args ...string) *program {
	t.Helper()
	addr := freeAddr(t)
	p := &program{t: t, base: "http://" + addr, err: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = environment(append([]string{"SERALM_HTTP_ADDR=" + addr}, settings...)...)
	p.cmd.Stderr, p.cmd.Stdout = p.err, p.err
	require.NoError(t, p.cmd.Start())
	go func() {
		p.exit = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %v wrote:\n%s", filepath.Base(path), args, p.err)
		}
	})
	return p
}

// call runs a binary to its end and returns what it wrote and its exit status.
func call(t *testing.T, path string, settings []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment(settings...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// kill is a power cut as far as the process is concerned.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// terminate asks it to end, and reports how it did.
func (p *program) terminate() error {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatal("it did not end within a minute of SIGTERM")
	}
	return p.exit
}

// do sends a request and returns status and body.
func (p *program) do(method, path string, body any) (int, map[string]any, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		require.NoError(p.t, err)
		reader = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, reader)
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	answer := map[string]any{}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		require.NoError(p.t, json.Unmarshal(data, &answer), string(data))
	} else {
		answer["text"] = string(data)
	}
	return resp.StatusCode, answer, nil
}

// get expects an answer of 200.
func (p *program) get(path string) map[string]any {
	p.t.Helper()
	status, answer, err := p.do("GET", path, nil)
	require.NoError(p.t, err)
	require.Equal(p.t, 200, status, "%s: %v", path, answer)
	return answer
}

// post expects an answer of 200.
func (p *program) post(path string, body any) map[string]any {
	p.t.Helper()
	status, answer, err := p.do("POST", path, body)
	require.NoError(p.t, err)
	require.Equal(p.t, 200, status, "%s: %v", path, answer)
	return answer
}

// until waits for a condition; the program must not end meanwhile.
func (p *program) until(what string, holds func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !holds() {
		select {
		case <-p.done:
			p.t.Fatalf("it ended (%v) while the test waited: %s", p.exit, what)
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// up waits until it answers.
func (p *program) up() *program {
	p.t.Helper()
	p.until("it answers /healthz", func() bool {
		status, _, err := p.do("GET", "/healthz", nil)
		return err == nil && status == 200
	})
	return p
}

// ready waits until it is ready.
func (p *program) ready() *program {
	p.t.Helper()
	p.until("it is ready", func() bool {
		status, _, err := p.do("GET", "/readyz", nil)
		return err == nil && status == 200
	})
	return p
}

// knows waits until the model answers for a user from their history.
func (p *program) knows(user string) {
	p.t.Helper()
	p.until("the model knows "+user, func() bool {
		return p.get("/v1/recommendations/" + user)["source"] == "personalised"
	})
}

func items(answer map[string]any) []string {
	ids := []string{}
	for _, it := range answer["items"].([]any) {
		ids = append(ids, it.(map[string]any)["item"].(string))
	}
	return ids
}
