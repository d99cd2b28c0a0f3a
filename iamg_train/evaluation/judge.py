"""`iamg-train judge`: a vision-language model ranks methods' pictures in a user's place (section 5.2, Appendix C)."""

import json
from argparse import Namespace
from collections.abc import Sequence

from iamg.items import read_items
from iamg.scenarios import load_scenarios
from iamg.tagging.asking import PICTURE_SIDE, REPAIRS, AnswerModel
from iamg_train.console import console, progress_bar, tell_problems
from iamg_train.evaluation.judge_cases import Case, Showing, make_cases, make_showings
from iamg_train.evaluation.judge_commands import TRANSFORMERS
from iamg_train.evaluation.judge_results import judge_results
from iamg_train.evaluation.judge_table import tell
from iamg_train.evaluation.judgements import JUDGEMENTS, Judgements
from iamg_train.evaluation.method_arguments import methods_of
from iamg_train.evaluation.methods import Method, in_common
from iamg_train.evaluation.user_info import read_user_info
from iamg_train.whole_files import write_whole

RANKING = "ranking.json"
SETTINGS = ("mode", "orders", "pictures", "users", "scenario", "seed")


def run(arguments: Namespace) -> int:
    methods, judge = methods_of(arguments), _judge(arguments)
    left_out = _left_out(methods)
    tell_problems("methods have pictures that others have not, and that are left out", list(left_out.items()))
    cases = make_cases(methods, arguments.pictures, arguments.users)
    texts = {item.item_id: item.description for item in read_items(arguments.items, lambda *_: None)}
    phi = load_scenarios()[arguments.scenario].phi
    people = read_user_info(arguments.user_info) if arguments.user_info else {}
    showings = make_showings(cases, texts, people, phi, arguments.mode, arguments.orders, judge.fingerprint)
    judgements = Judgements(arguments.out / JUDGEMENTS, arguments.retry_failed)
    missing = judgements.missing(showings)
    _tell_cost(cases, showings, missing, judge.fingerprint)
    if arguments.dry_run:
        return 0
    with progress_bar() as bar:
        task = bar.add_task("judging", total=len(missing))
        judgements.ask(judge, cases, missing, lambda count: bar.advance(task, count))
    results = {
        "format_version": 1,
        "judge": judge.fingerprint,
        "settings": {name: getattr(arguments, name) for name in SETTINGS},
        "folders": {x.name: {"folder": x.folder.resolve().name, "manifest": x.manifest_hash} for x in methods},
        "left_out": left_out,
        **judge_results(cases, showings, judgements, [x.name for x in methods], arguments.seed),
    }
    write_whole(arguments.out / RANKING, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    tell(results)
    console.print(f"all numbers: {arguments.out / RANKING}", markup=False, soft_wrap=True)
    return 0


def _left_out(methods: Sequence[Method]) -> dict[str, str]:
    """By method, what others lack."""
    common = set(in_common(methods))
    return {
        method.name: f"{len(method.pairs()) - len(common)} users and objectives"
        for method in methods
        if set(method.pairs()) > common
    }


def _judge(arguments: Namespace) -> AnswerModel:
    """ValueError or FileNotFoundError where no model is named, or what names it cannot be used."""
    if arguments.judge == TRANSFORMERS:
        from iamg.tagging.transformers_models import TransformersModel

        if not arguments.vision_model:
            raise ValueError("there is no judge; give --vision-model, the folder of a vision-language model")
        return TransformersModel(arguments.vision_model, arguments.device, arguments.dtype, arguments.batch_size)
    from iamg.tagging.endpoint import EndpointModel
    from iamg.tagging.endpoint_settings import VARIABLES, read_endpoint_settings

    settings = read_endpoint_settings(arguments.endpoint)
    name = arguments.vision_model or settings.vision_model
    if not name:
        raise ValueError(
            f"there is no judge; give --vision-model, vision_model in the endpoint's settings, or {VARIABLES['vision_model']}"
        )
    return EndpointModel(settings, name)


def _tell_cost(cases: Sequence[Case], showings: Sequence[Showing], missing: Sequence[Showing], judge: str) -> None:
    """What is about to be asked, before it is."""
    characters = sum(len(showing.prompt) for showing in missing)
    pictures = sum(len(showing.slots) for showing in missing)
    told = (
        f"{len(cases)} cases, {len(showings)} questions: {len(missing)} requests to {judge}, with {pictures} pictures of "
        f"at most {PICTURE_SIDE} x {PICTURE_SIDE} and {characters:,} characters. The rest is answered, or alike in all "
        f"that is seen. What has no usable answer is asked {REPAIRS} times more at most."
    )
    console.print(told, markup=False, highlight=False, soft_wrap=True)
