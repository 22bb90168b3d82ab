// Command testapp is an application in a container as others write them: it
// serves HTTP on $PORT, 8080 where that is not set, until SIGTERM.
//
//	POST /           the body back, upper case, as a function would return it
//	GET  /           the host name
//	GET  /status/503 an answer of that status
//	GET  /env        the environment, a line each
//	GET  /memory/64  takes so many MiB and keeps them
//	GET  /healthz    200, until
//	POST /sick       it is not well any more
//	POST /exit/3     ends with that status
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: routes(), ReadTimeout: 10 * time.Second}
	var down sync.WaitGroup
	down.Go(func() {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(late) // what is still open then dies with the process
	})
	fmt.Println("listening on", port)
	err := server.ListenAndServe()
	if errors.Is(err, http.ErrServerClosed) {
		down.Wait()
		return nil
	}
	return err
}

func routes() http.Handler {
	var sick atomic.Bool
	var hoard hoard
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		name, err := os.Hostname()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Write(bytes.ToUpper(body))
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/status/{n}", number(func(w http.ResponseWriter, n int) { w.WriteHeader(n) }, 200, 599))
	mux.HandleFunc("GET /memory/{n}", number(func(w http.ResponseWriter, n int) { hoard.take(n) }, 1, 4096))
	mux.HandleFunc("POST /exit/{n}", number(func(w http.ResponseWriter, n int) { os.Exit(n) }, 0, 255))
	mux.HandleFunc("POST /sick", func(w http.ResponseWriter, r *http.Request) { sick.Store(true) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})
	return mux
}

// number hands f the number at the end of the path.
func number(f func(http.ResponseWriter, int), least, most int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < least || n > most {
			http.Error(w, fmt.Sprintf("want a number from %d to %d", least, most), http.StatusBadRequest)
			return
		}
		f(w, n)
	}
}

// A hoard keeps memory.
type hoard struct {
	mu  sync.Mutex
	all [][]byte // guarded by mu
}

func (h *hoard) take(mib int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range mib {
		h.all = append(h.all, bytes.Repeat([]byte{1}, 1<<20)) // touched, so that it counts
	}
}
