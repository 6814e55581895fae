// The node of the tests: what the API server takes for a kubelet, with local processes in the place
// of containers.
//
// It answers exec, attach, port-forward and logs with the kubelet's own streaming library, runs what
// pods have as their commands, and tells how they are. It binds pods as well, since no scheduler runs
// in the tests.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:10250", "address of the kubelet's interface")
	certificate := flag.String("certificate", "", "PEM file, of the server")
	key := flag.String("key", "", "PEM file, of the server")
	authority := flag.String("client-authority", "", "PEM file that signed the API server's certificate")
	config := flag.String("kubeconfig", "", "how the node itself reaches the API server")
	folder := flag.String("folder", "", "where pods have their folders")
	name := flag.String("node", "node-1", "the node that pods are bound to")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if err := run(*listen, *certificate, *key, *authority, *config, *folder, *name); err != nil {
		log.Fatalln("node:", err)
	}
}

func run(listen, certificate, key, authority, config, folder, name string) error {
	settings, err := clientcmd.BuildConfigFromFlags("", config)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return err
	}
	pods := newPods(client, folder, name)
	go pods.report(context.Background(), listen)
	go pods.follow(context.Background())

	// Streams are served behind a listener of their own, as a container runtime serves them behind
	// the kubelet: the kubelet's translation of WebSockets connects to it.
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { log.Fatalln("node:", http.Serve(inner, pods.runtime())) }()

	text, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate", authority)
	}
	server := http.Server{
		Addr:      listen,
		Handler:   pods.kubelet(inner.Addr().String()),
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"}},
	}
	return server.ListenAndServeTLS(certificate, key)
}
