package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream/wsstream"
	"k8s.io/apimachinery/pkg/util/proxy"
	translator "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	idle     = 4 * time.Hour
	creation = 30 * time.Second
)

// kubelet answers the API server as a kubelet with ExtendWebSocketsToKubelet does: WebSockets of the
// newer protocols are translated here, everything else goes through to the runtime as it is.
func (p *pods) kubelet(runtime string) http.Handler {
	mux := http.NewServeMux()
	relay := func(w http.ResponseWriter, r *http.Request) (*url.URL, http.Handler) {
		location := *r.URL
		location.Scheme, location.Host = "http", runtime
		return &location, proxy.NewUpgradeAwareHandler(&location, nil, false, true, failure{})
	}
	command := func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		location, handler := relay(w, r)
		if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
			handler = translator.NewStreamTranslatorHandler(location, nil, 0, translator.Options{
				Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY,
			})
		}
		handler.ServeHTTP(w, r)
	}
	forward := func(w http.ResponseWriter, r *http.Request) {
		_, handler := relay(w, r)
		if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
			handler = translator.NewTunnelingHandler(handler)
		}
		handler.ServeHTTP(w, r)
	}
	for _, path := range []string{"/exec/{ns}/{pod}/{container}", "/exec/{ns}/{pod}/{uid}/{container}",
		"/attach/{ns}/{pod}/{container}", "/attach/{ns}/{pod}/{uid}/{container}"} {
		mux.HandleFunc(path, p.known(command))
	}
	mux.HandleFunc("/portForward/{ns}/{pod}", p.known(forward))
	mux.HandleFunc("/portForward/{ns}/{pod}/{uid}", p.known(forward))
	mux.HandleFunc("GET /containerLogs/{ns}/{pod}/{container}", p.known(p.logs))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") })
	return mux
}

// runtime serves the streams themselves.
func (p *pods) runtime() http.Handler {
	mux := http.NewServeMux()
	exec := func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, p, podOf(r), "", r.PathValue("container"), r.URL.Query()["command"],
			options, idle, creation, remotecommand.SupportedStreamingProtocols)
	}
	attach := func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeAttach(w, r, p, podOf(r), "", r.PathValue("container"),
			options, idle, creation, remotecommand.SupportedStreamingProtocols)
	}
	forward := func(w http.ResponseWriter, r *http.Request) {
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, p, podOf(r), "", options, idle, creation,
			portforward.SupportedProtocols)
	}
	mux.HandleFunc("/exec/{ns}/{pod}/{container}", exec)
	mux.HandleFunc("/exec/{ns}/{pod}/{uid}/{container}", exec)
	mux.HandleFunc("/attach/{ns}/{pod}/{container}", attach)
	mux.HandleFunc("/attach/{ns}/{pod}/{uid}/{container}", attach)
	mux.HandleFunc("/portForward/{ns}/{pod}", forward)
	mux.HandleFunc("/portForward/{ns}/{pod}/{uid}", forward)
	return mux
}

func podOf(r *http.Request) string { return r.PathValue("ns") + "/" + r.PathValue("pod") }

// known refuses pods that this node does not have.
func (p *pods) known(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		log.Println(r.Method, r.URL)
		if p.get(podOf(r)) == nil {
			http.Error(w, "pod does not exist", http.StatusNotFound)
			return
		}
		next(w, r)
	}
}

type failure struct{}

func (failure) Error(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// PortForward connects to the port on the loopback address: pods share the host's network here.
func (p *pods) PortForward(_ context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	connection, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("pod %s: %w", pod, err)
	}
	defer connection.Close()
	go func() {
		io.Copy(connection, stream)
		connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}
