// Package gitea names the version of Gitea that the tests run; see the tool line of go.mod.
package gitea
