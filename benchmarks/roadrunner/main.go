// Command roadrunner serves a configuration with the plugins that the benchmarks need, and no other.
//
// It stands in for the released binary, whose main registers some thirty plugins more; those that a configuration
// does not name stay idle there.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/roadrunner-server/config/v5"
	"github.com/roadrunner-server/endure/v2"
	"github.com/roadrunner-server/grpc/v5"
	"github.com/roadrunner-server/http/v5"
	"github.com/roadrunner-server/logger/v5"
	"github.com/roadrunner-server/metrics/v5"
	"github.com/roadrunner-server/rpc/v5"
	"github.com/roadrunner-server/server/v5"
	"github.com/roadrunner-server/status/v5"
)

const version = "2025.1.15"

func serve(path string) error {
	container := endure.New(slog.LevelError, endure.GracefulShutdownTimeout(10*time.Second))
	err := container.RegisterAll(
		&config.Plugin{Path: path, Version: version, Timeout: 10 * time.Second},
		&logger.Plugin{}, &rpc.Plugin{}, &server.Plugin{},
		&status.Plugin{}, &metrics.Plugin{}, &http.Plugin{}, &grpc.Plugin{},
	)
	if err != nil {
		return err
	}
	if err = container.Init(); err != nil {
		return err
	}
	failures, err := container.Serve()
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	select {
	case failure := <-failures:
		_ = container.Stop()
		return fmt.Errorf("%s: %w", failure.VertexID, failure.Error)
	case <-stop:
		return container.Stop()
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: roadrunner FILE")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
