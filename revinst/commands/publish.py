"""Uploading a folder to the Hub."""

from pathlib import Path

from revinst.errors import UserError


def push(folder: Path, repository: str) -> None:
    """Uploads the folder; the token comes from the environment or `hf auth login`, never from us."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder))
    except Exception as error:  # the hub client raises its own kinds, httpx's and the operating system's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--push_to_hub {repository}: {reason}; the merged model is in {folder}") from error
    print(f"uploaded to {repository} (private)")
