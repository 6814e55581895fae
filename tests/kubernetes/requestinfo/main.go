// The API server's own reading of requests, as a program: the oracle for hoop's.
//
// Standard input has one request a line, `method TAB target`, the target as it would stand on the
// request line. Standard output has one line of JSON for each: what RequestInfoFactory makes of it,
// or the error by which the server would refuse it.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
)

// As kube-apiserver sets it: k8s.io/apiserver/pkg/server.NewRequestInfoResolver.
var factory = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

type answer struct {
	Error         string   `json:"error,omitempty"`
	IsResource    bool     `json:"isResourceRequest,omitempty"`
	Path          string   `json:"path,omitempty"`
	Verb          string   `json:"verb,omitempty"`
	APIPrefix     string   `json:"apiPrefix,omitempty"`
	APIGroup      string   `json:"apiGroup,omitempty"`
	APIVersion    string   `json:"apiVersion,omitempty"`
	Namespace     string   `json:"namespace,omitempty"`
	Resource      string   `json:"resource,omitempty"`
	Subresource   string   `json:"subresource,omitempty"`
	Name          string   `json:"name,omitempty"`
	Parts         []string `json:"parts,omitempty"`
	FieldSelector string   `json:"fieldSelector,omitempty"`
	LabelSelector string   `json:"labelSelector,omitempty"`
}

func main() {
	// It logs each query that it can't parse.
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	flags.Set("logtostderr", "false")
	flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)

	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for in.Scan() {
		method, target, found := strings.Cut(in.Text(), "\t")
		if !found {
			fmt.Fprintf(os.Stderr, "requestinfo: no tab in %q\n", in.Text())
			os.Exit(1)
		}
		if err := encoder.Encode(read(method, target)); err != nil {
			fmt.Fprintln(os.Stderr, "requestinfo:", err)
			os.Exit(1)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "requestinfo:", err)
		os.Exit(1)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "requestinfo:", err)
		os.Exit(1)
	}
}

// read goes the way of the server: net/http's parser first, then the factory.
func read(method, target string) answer {
	text := method + " " + target + " HTTP/1.1\r\nHost: cluster\r\n\r\n"
	parsed, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return answer{Error: err.Error()}
	}
	info, err := factory.NewRequestInfo(parsed)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{
		IsResource: info.IsResourceRequest, Path: info.Path, Verb: info.Verb,
		APIPrefix: info.APIPrefix, APIGroup: info.APIGroup, APIVersion: info.APIVersion,
		Namespace: info.Namespace, Resource: info.Resource, Subresource: info.Subresource,
		Name: info.Name, Parts: info.Parts,
		FieldSelector: info.FieldSelector, LabelSelector: info.LabelSelector,
	}
}
