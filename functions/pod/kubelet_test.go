package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/functions/pod/keeper"
	"github.com/sedge-iot/sedge/functions/runner"
	"github.com/sedge-iot/sedge/functions/runner/javascript"
)

// patience is how long a test waits for what must come, on however slow a machine.
const patience = time.Minute

// TestMain is also the program in the pods: keeper and runner.
func TestMain(m *testing.M) {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch verb {
	case "keep":
		err = keeper.Main(context.Background(), os.Args[2], []string{"/proc/self/exe", "runner"})
	case "runner":
		err = runner.Main(context.Background(), os.NewFile(3, "keeper"), map[string]runner.Engine{"javascript": javascript.New()})
	default:
		os.Exit(m.Run())
	}
	if e, ok := errors.AsType[*keeper.Ended](err); ok {
		fmt.Fprintln(os.Stderr, e)
		os.Exit(e.Status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lastHost numbers the addresses of pods, which differ between test processes, too.
var lastHost atomic.Int32

// A kubelet runs the pods of an apiServer: each is a keeper, a process of its own with
// an address of its own on loopback.
type kubelet struct {
	t   *testing.T
	api *apiServer
	wg  sync.WaitGroup

	begun map[string]bool // uids of them
}

func startKubelet(t *testing.T, api *apiServer) *kubelet {
	k := &kubelet{t: t, api: api, begun: map[string]bool{}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // awaited by the cleanup
		defer close(done)
		k.run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		k.wg.Wait()
	})
	return k
}

const podPath = "/api/v1/namespaces/sedge/pods/"

func (k *kubelet) run(ctx context.Context) {
	for {
		k.api.mu.Lock()
		more := k.api.more
		pods := map[string]object{}
		for path, o := range k.api.objects {
			if strings.HasPrefix(path, podPath) {
				pods[path] = clone(o)
			}
		}
		k.api.mu.Unlock()
		for path, o := range pods {
			if node := o["spec"].(object)["nodeName"]; node != "node1" {
				continue
			}
			if uid := meta(o)["uid"].(string); !k.begun[uid] {
				k.begun[uid] = true
				address := fmt.Sprintf("127.%d.%d.%d", 10+os.Getpid()%200, os.Getpid()/200%250, lastHost.Add(1)%250+1)
				k.wg.Go(func() { k.pod(ctx, path, o, address) })
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// pod runs the container of a pod again and again until the pod is deleted.
func (k *kubelet) pod(ctx context.Context, path string, o object, address string) {
	runtime.LockOSThread() // never unlocked: containers die with the thread that started them
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	k.wg.Go(func() { k.untilGone(ctx, path, meta(o)["uid"], stop) })
	if k.api.report(path, o) {
		<-ctx.Done()
		return
	}
	var last object
	for restarts := 0; ctx.Err() == nil; restarts++ {
		cmd, stderr := k.container(o, address)
		if err := cmd.Start(); err != nil {
			k.t.Errorf("start container: %v", err)
			return
		}
		defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
		k.status(path, address, restarts, object{"running": object{}}, last)
		cmd.Wait()
		last = object{"terminated": object{"exitCode": cmd.ProcessState.ExitCode(), "reason": "Error", "message": stderr.String()}}
		k.status(path, address, restarts, last, object{})
		if restarts >= 2 {
			k.status(path, address, restarts, object{"waiting": object{"reason": "CrashLoopBackOff"}}, last)
			<-ctx.Done()
		}
	}
}

// report gives a pod the status that its image asks for, for those that never run.
func (a *apiServer) report(path string, o object) bool {
	c := o["spec"].(object)["containers"].([]any)[0].(object)
	reason, stuck := strings.CutPrefix(c["image"].(string), "stuck/")
	if !stuck {
		return false
	}
	a.edit(path, func(o object) {
		o["status"] = object{"phase": "Pending", "containerStatuses": []any{object{"name": "x", "state": object{"waiting": object{"reason": reason, "message": "as the test wants"}}}}}
	})
	return true
}

func (k *kubelet) status(path, address string, restarts int, state, last object) {
	k.api.edit(path, func(o object) {
		o["status"] = object{"phase": "Running", "podIP": address, "containerStatuses": []any{
			object{"name": "runner", "ready": true, "restartCount": restarts, "state": state, "lastState": last},
		}}
	})
}

func (k *kubelet) container(o object, address string) (*exec.Cmd, *bytes.Buffer) {
	c := o["spec"].(object)["containers"].([]any)[0].(object)
	cmd := exec.Command("/proc/self/exe", "keep", fmt.Sprintf("%s:%d", address, keeper.Port))
	env, _ := c["env"].([]any)
	cmd.Env = []string{}
	for _, e := range env {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", e.(object)["name"], e.(object)["value"]))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, &stderr
}

// untilGone calls stop when the pod is no longer there.
func (k *kubelet) untilGone(ctx context.Context, path string, uid any, stop func()) {
	for {
		k.api.mu.Lock()
		o, more := k.api.objects[path], k.api.more
		k.api.mu.Unlock()
		if o == nil || meta(o)["uid"] != uid {
			stop()
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}

// pods returns the pods there are, by name.
func (a *apiServer) pods() map[string]object {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := map[string]object{}
	for path, o := range a.objects {
		if name, ok := strings.CutPrefix(path, podPath); ok {
			found[name] = clone(o)
		}
	}
	return found
}

// names returns the names of pods, sorted.
func names(pods map[string]object) (all []string) {
	for name := range pods {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	clock := time.NewTicker(5 * time.Millisecond)
	defer clock.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-clock.C:
		case <-deadline:
			t.Fatalf("%s did not come about", what)
		}
	}
}

// kill kills the container of a pod, as the kernel may.
func (a *apiServer) kill(t *testing.T, name string) {
	t.Helper()
	ip := a.pods()[name]["status"].(object)["podIP"].(string)
	files, _ := os.ReadDir("/proc")
	for _, f := range files {
		pid, err := strconv.Atoi(f.Name())
		line, _ := os.ReadFile("/proc/" + f.Name() + "/cmdline")
		if err == nil && strings.Contains(string(line), "keep\x00"+ip+":") {
			syscall.Kill(pid, syscall.SIGKILL)
			return
		}
	}
	t.Fatalf("no container listens at %s", ip)
}
