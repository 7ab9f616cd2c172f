from twisted_rr.wire import mux, mux_server, mux_settings, mux_worker


def test_one_module_has_both_ends():
    assert mux.MuxServerEnd is mux_server.MuxServerEnd
    assert mux.MuxWorkerEnd is mux_worker.MuxWorkerEnd
    assert mux.MuxSettings is mux_settings.MuxSettings
