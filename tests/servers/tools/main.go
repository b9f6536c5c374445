// Package tools names the versions of kustomize and helm that the tests run; see the tool lines of go.mod.
package tools
