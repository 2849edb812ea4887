from ray_classy.trainer.run_folder import RunFolder


def test_forgetting_a_checkpoint_request_leaves_the_request_to_stop(tmp_path):
    run = RunFolder.create(str(tmp_path), "r")
    run.requests.stop()
    run.requests.checkpoint()
    run.requests.forget_checkpoint()
    assert run.requests.stop_requested() and not run.requests.checkpoint_requested()
    run.release()
